"""The doctor's report, as a value, as JSON, and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from .registrar import Registrar


class Verdict(StrEnum):
    """What pjfail does with the pjsip of this environment."""

    WORKS = "works"
    REFUSED = "refused"
    NOTHING = "nothing found"


@dataclass(frozen=True, slots=True)
class Pjfail:
    """pjfail itself: its version, that of the pjproject headers it was built with, the layouts it knows."""

    version: str
    built_for: str | None = None
    layouts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Python:
    version: str
    executable: str
    platform: str


@dataclass(frozen=True, slots=True)
class Module:
    """The module that was imported; ``file`` is None if it has none, or could not be imported."""

    name: str
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Pjsip:
    """The pjsip that was found; None stands for what is not known.

    ``object`` is the file that carries it: with all of pjsip inside (``linkage`` "static"), with pjsip's own libraries
    ("shared"), or the program that runs Python ("program"). ``layout`` is its row in pjfail's table, ``addresses`` how
    many servers one answer may name, ``accounts`` whether accounts can be pinned and followed, ``native_affinity``
    whether pjsip has its own server affinity, ``own_lookups`` whether pjfail can keep pjsua from looking up an
    account's domain by itself, ``digests`` the algorithms in which it answers a challenge in a program that does
    nothing special. ``tls``, ``ipv6`` and ``dns_resolver`` were tried; ``build`` are settings of pjlib.
    """

    object: str
    linkage: str
    version: str | None = None
    layout: str | None = None
    addresses: int | None = None
    accounts: bool | None = None
    native_affinity: bool | None = None
    own_lookups: bool | None = None
    digests: tuple[str, ...] | None = None
    tls: bool | None = None
    ipv6: bool | None = None
    dns_resolver: bool | None = None
    build: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """All of it; ``notes`` are sentences on what could not be found out, and on what to beware of.

    ``registrar`` is what the URI leads to, if one was given.
    """

    pjfail: Pjfail
    python: Python
    module: Module | None = None
    pjsip: Pjsip | None = None
    verdict: Verdict | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()
    registrar: Registrar | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns what ``--json`` prints: the attributes above, by name."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Returns the rows of the table: a name and what was found."""
        known = ", ".join(self.pjfail.layouts)
        rows = [
            ("pjfail", self.pjfail.version + (f", knows pjsip {known}" if known else "")),
            ("Python", f"{self.python.version}, {self.python.executable}"),
            ("platform", self.python.platform),
        ]
        if self.module is not None:
            rows.append(("module", ", ".join(filter(None, (self.module.name, self.module.file)))))
        if self.pjsip is not None:
            rows += _rows_of(self.pjsip)
        return rows


_LINKAGE = {
    "static": "all of pjsip is in it",
    "shared": "one of pjsip's shared libraries",
    "program": "the main program",
}


def _rows_of(pjsip: Pjsip) -> list[tuple[str, str]]:
    """Returns the rows of what is known about *pjsip*."""
    rows = [
        ("pjsip", pjsip.version or "of a version that it does not tell"),
        ("in", f"{pjsip.object} ({_LINKAGE[pjsip.linkage]})"),
        ("layout", f"{pjsip.layout}, verified" if pjsip.layout else "not verified"),
        ("servers at once", pjsip.addresses),
        ("accounts", _told(pjsip.accounts, "can be pinned and followed", "cannot be pinned or followed")),
        ("server affinity", _told(pjsip.native_affinity, "pjsip's own", "pjfail's")),
        ("own lookups", _told(pjsip.own_lookups, "pjsua's are stopped", "pjsua's go on, see below")),
        ("digests", None if pjsip.digests is None else ", ".join(pjsip.digests) or "none, see below"),
        ("TLS", _told(pjsip.tls)),
        ("IPv6", _told(pjsip.ipv6)),
        ("DNS resolver", _told(pjsip.dns_resolver)),
    ]
    return [(what, str(found)) for what, found in rows if found is not None]


def _told(value: bool | None, yes: str = "yes", no: str = "no") -> str | None:
    return None if value is None else yes if value else no
