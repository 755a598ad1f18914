"""Imports a module, and tries what pjfail would do with its pjsip."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...errors import NoPjsip, PjfailError, UnusablePjsip
from .endpoint import Endpoint
from .report import Module, Pjsip, Report, Verdict

USUAL = "pjsua2"

# One function of each of pjsip's libraries that pjfail works with.
_OF_LIBRARIES = ("pj_init", "pjsip_endpt_create", "pjsua_create")

# Every registrar that sends challenges uses this algorithm.
_USUAL_DIGEST = "MD5"
_DIGESTS_COME_LATER = (
    "pjsip answers no challenge yet, so an account with a password stays at 401 (status 70012): its OpenSSL has not "
    "been initialised. Call endpoint.utilSslGetAvailableCiphers() once after libStart(); or take "
    "pjsua2-python 2.15.1.post1 or later, which needs no such call"
)
_NO_DIGESTS = "pjsip answers no challenge with MD5, so accounts with a password stay at 401: its TLS library lacks MD5"

_OWN_LOOKUPS = (
    "pjsua cannot be kept from looking up the domain of a TCP or TLS account by itself: with silent name servers that "
    "stops pjsip's threads for 40 s. Set natConfig.contactUseSrcPort = 0 in the account's configuration, or "
    "uaConfig.nameserver"
)


class _Ended(Exception):
    """Raised when the verdict is known; its text is the reason."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict


class Examination:
    """Goes from the module to the verdict, and then on to what else its pjsip can do.

    Any step may crash, hang, or end the process, so run it in a process of its own. At each step *tell* is called with
    the report so far and the next step.
    """

    def __init__(self, report: Report, tell: Callable[[Report, str], None]) -> None:
        self._report = report
        self._tell = tell

    def run(self, module: str | None) -> None:
        """Imports *module* first; None: pjsua2, if no pjsip has been loaded so far."""
        try:
            self._examine(module)
        except _Ended as ended:
            self._found("", verdict=ended.verdict, reason=str(ended))
        except PjfailError as error:
            self._found("", verdict=Verdict.REFUSED, reason=str(error))

    def _found(self, next_step: str, **changes: Any) -> None:
        self._report = replace(self._report, **changes)
        self._tell(self._report, next_step)

    def _found_of_pjsip(self, next_step: str, **changes: Any) -> None:
        assert self._report.pjsip is not None
        self._found(next_step, pjsip=replace(self._report.pjsip, **changes))

    def _examine(self, module: str | None) -> None:
        self._found("loading pjfail's own core")
        try:
            from ...bridge.host import built_for, known_layouts
            from ...bridge.loader import object_of, symbol
        except ImportError as error:
            raise _Ended(Verdict.REFUSED, str(error)) from error
        ours = replace(self._report.pjfail, built_for=built_for(), layouts=known_layouts())
        self._found("looking for pjsip", pjfail=ours)
        path = self._find(module)
        functions = filter(None, (symbol(path, function) for function in _OF_LIBRARIES))
        homes = set(map(object_of, functions))
        linkage = "program" if path is None else "static" if len(homes) == 1 else "shared"
        carried_by = os.path.realpath("/proc/self/exe") if path is None else path
        self._found("asking pjsip for its version", pjsip=Pjsip(carried_by, linkage))
        endpoint = Endpoint(path)
        self._found_of_pjsip("creating an endpoint", version=endpoint.version)
        with endpoint:
            self._found_of_pjsip("attaching", build=endpoint.build())
            self._attach(path)
            self._found_of_pjsip("asking for digests")
            self._found_of_pjsip("creating a TLS transport", digests=self._digests(endpoint))
            self._found_of_pjsip("creating an IPv6 transport", tls=endpoint.has_tls())
            self._found_of_pjsip("creating a DNS resolver", ipv6=self._has_ipv6(endpoint))
            self._found_of_pjsip("ending the endpoint", dns_resolver=endpoint.has_dns_resolver())
        self._found("")

    def _find(self, module: str | None) -> str | None:
        """Does what :func:`pjfail.host.find` does."""
        from ... import host

        if module is None:
            try:
                return host.find()
            except UnusablePjsip:
                raise
            except NoPjsip:
                module = USUAL
        self._import(module)
        self._found("looking for pjsip")
        try:
            return host.find()
        except UnusablePjsip:
            raise
        except NoPjsip as error:
            raise _Ended(Verdict.NOTHING, f"the module {module} has loaded no pjsip into the process") from error

    def _import(self, name: str) -> None:
        self._found(f"importing {name}", module=Module(name))
        try:
            imported = importlib.import_module(name)
            self._found(f"importing {name}", module=Module(name, getattr(imported, "__file__", None)))
            getattr(imported, "Endpoint", None)  # a package may load its extension only now
        except ModuleNotFoundError as error:
            if error.name is not None and f"{name}.".startswith(f"{error.name}."):
                raise _Ended(Verdict.NOTHING, f"this Python has no module {error.name}") from error
            raise _Ended(Verdict.REFUSED, _said_at_import(name, error)) from error
        except BaseException as error:
            raise _Ended(Verdict.REFUSED, _said_at_import(name, error)) from error

    def _attach(self, path: str | None) -> None:
        from ...bridge.host import host_facts
        from ...failover import attach
        from ...lookup import StaticLookup

        with attach(lookup=StaticLookup({"doctor.invalid": ["192.0.2.1:5060"]}), host=path) as failover:
            failover.resolve("sip:doctor.invalid")
            facts = host_facts()
        self._found_of_pjsip(
            "detaching",
            layout=facts.layout,
            addresses=facts.addresses,
            accounts=facts.accounts,
            native_affinity=facts.native_affinity,
            own_lookups=facts.own_lookups,
        )
        if not facts.own_lookups:
            self._note(_OWN_LOOKUPS)
        self._found("", verdict=Verdict.WORKS, reason="pjfail.attach() was tried on an endpoint, and detached")

    def _digests(self, endpoint: Endpoint) -> tuple[str, ...] | None:
        """Returns the algorithms that a program gets which does nothing special."""
        found = endpoint.digests()
        if found is not None and _USUAL_DIGEST not in found:
            endpoint.list_ciphers()
            later = _USUAL_DIGEST in (endpoint.digests() or ())
            self._note(_DIGESTS_COME_LATER if later else _NO_DIGESTS)
        return found

    def _note(self, sentence: str) -> None:
        self._found("", notes=(*self._report.notes, sentence))

    def _has_ipv6(self, endpoint: Endpoint) -> bool | None:
        """Returns whether pjsip has IPv6. Even without it a transport may be created. None: this machine has no IPv6 to
        try it.
        """
        assert self._report.pjsip is not None
        if self._report.pjsip.build.get("PJ_HAS_IPV6") == "0":
            return False
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as tried:
                tried.bind(("::1", 0))
        except OSError as error:
            self._note(f"this machine has no IPv6 to try: {error}")
            return None
        return endpoint.has_ipv6()


def _said_at_import(name: str, error: BaseException) -> str:
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"the module {name} cannot be imported: {what}"
