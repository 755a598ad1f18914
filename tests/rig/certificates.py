"""A certificate authority for one test, and the certificates that servers show, good and bad."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_DAY = datetime.timedelta(days=1)


class Certificate(NamedTuple):
    """A private key and the chain for it, as PEM files."""

    key: Path
    chain: Path

    def context(self) -> ssl.SSLContext:
        """A server's context that shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


class Authority:
    """Signs certificates for host names (wildcards too) and addresses; `path` is what clients trust.

    Authorities may share *folder* when they have a *name* each.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self._name = name
        self._issued = 0
        self.path = folder / f"{name}.pem"
        self._authority.cert_pem.write_to_path(self.path)

    def issue(self, *names: str) -> Certificate:
        """For *names* as DNS names or addresses among the subject's alternative names."""
        return self._keep(self._authority.issue_cert(*names))

    def issue_expired(self, *names: str) -> Certificate:
        """One that was good until yesterday."""
        now = datetime.datetime.now(datetime.UTC)
        return self._keep(self._authority.issue_cert(*names, not_before=now - 9 * _DAY, not_after=now - _DAY))

    def issue_premature(self, *names: str) -> Certificate:
        """One that will be good from tomorrow on."""
        now = datetime.datetime.now(datetime.UTC)
        return self._keep(self._authority.issue_cert(*names, not_before=now + _DAY, not_after=now + 9 * _DAY))

    def issue_to_subject(self, common_name: str, *names: str) -> Certificate:
        """One whose subject has a common name, as before there were alternative names; *names* are added as such."""
        if names:
            return self._keep(self._authority.issue_cert(*names, common_name=common_name))
        return self._sign(common_name)

    def issue_to_uris(self, *uris: str) -> Certificate:
        """One for SIP URIs (RFC 5922), which trustme does not make."""
        return self._sign("uris", *uris)

    def _sign(self, common_name: str, *uris: str) -> Certificate:
        """A certificate of a bare kind: no alternative names at all without *uris*."""
        now = datetime.datetime.now(datetime.UTC)
        authority = x509.load_pem_x509_certificate(self._authority.cert_pem.bytes())
        authority_key = serialization.load_pem_private_key(self._authority.private_key_pem.bytes(), None)
        assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        if uris:
            names = [x509.UniformResourceIdentifier(uri) for uri in uris]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(authority_key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self._write(secret, certificate.public_bytes(pem))

    def _keep(self, issued: trustme.LeafCert) -> Certificate:
        return self._write(issued.private_key_pem.bytes(), *(pem.bytes() for pem in issued.cert_chain_pems))

    def _write(self, key: bytes, *chain: bytes) -> Certificate:
        self._issued += 1
        written = Certificate(*(self._folder / f"{self._name}-{self._issued}.{kind}" for kind in ("key", "crt")))
        written.key.write_bytes(key)
        written.chain.write_bytes(b"".join(chain))
        return written
