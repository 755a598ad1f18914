"""A certificate authority for one test."""

from __future__ import annotations

from pathlib import Path

import trustme


class Authority:
    """Signs certificates for host names and addresses; `path` is what clients trust."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self.path = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.path)

    def issue(self, *names: str) -> tuple[Path, Path]:
        """The private key and the certificate for *names*, as PEM files."""
        certificate = self._authority.issue_cert(*names)
        key = self._folder / f"{names[0]}.key"
        chain = self._folder / f"{names[0]}.crt"
        certificate.private_key_pem.write_to_path(key)
        chain.unlink(missing_ok=True)
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(chain, append=True)
        return key, chain
