"""What ``attach(shared=)`` takes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from urllib.parse import urlsplit

from .._values import dataclass

VARIABLE = "PJFAIL_SHARED"
SCHEMES = ("redis", "rediss")


@dataclass(frozen=True, slots=True)
class Shared:
    """Where the processes of a fleet keep what they have learnt of servers, so that all know what one has learnt.

    ``url`` is a path (a SQLite file, for the processes of one machine) or ``redis://[user:password@]host:port/db``,
    ``rediss://`` for TLS (``?ssl_ca_certs=/path`` names its authority). Fleets with different ``namespace`` do not hear
    of each other. ``trust``: how many processes must agree that a server is down before another believes it; the
    default, None, is 1 for a path, and for Redis 2, or one process whose other servers are well.

    Raises ValueError for what is not valid.
    """

    url: str = field(repr=False)
    namespace: str = "default"
    trust: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.url, os.PathLike):
            object.__setattr__(self, "url", os.fspath(self.url))
        if not isinstance(self.url, str) or not self.url.strip() or not self.url.isprintable():
            raise ValueError(f'{self.url!r} is not a valid place; give a path, or "redis://host:port/db"')
        scheme, separator, _ = self.url.partition("://")
        if separator:
            if scheme not in SCHEMES:
                raise ValueError(f"{scheme}:// is not known; write redis://host:port/db, rediss:// for TLS, or a path")
            try:
                parts = urlsplit(self.url)
                _ = parts.port
            except ValueError as error:
                raise ValueError(
                    f"the address of Redis is not a valid URL ({error}); write redis://host:port/db"
                ) from None
            if not parts.hostname:
                raise ValueError("the address of Redis has no host; write redis://host:port/db")
        if not (isinstance(self.namespace, str) and re.fullmatch(r"[\w.-]{1,64}", self.namespace, re.ASCII)):
            raise ValueError(f"{self.namespace!r} is not a valid namespace; use 1 to 64 of A-Z a-z 0-9 . _ -")
        if self.trust is not None and (type(self.trust) is not int or self.trust < 1):
            raise ValueError(f"trust is {self.trust!r}; give a whole number from 1 on, or None")

    @property
    def is_redis(self) -> bool:
        return "://" in self.url

    @property
    def label(self) -> str:
        """The place, without user name, password and options, for the log."""
        if not self.is_redis:
            return self.url
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"

    @classmethod
    def wanted(cls, shared: object, environment: Mapping[str, str] = os.environ) -> Shared | None:
        """What ``attach(shared=)`` asks for: with False nothing, with None what the environment does. Raises TypeError,
        ValueError.
        """
        if shared is None:
            text = environment.get(VARIABLE, "").strip()
            return cls(text) if text else None
        if shared is False:
            return None
        if isinstance(shared, cls):
            return shared
        if not isinstance(shared, str | Path):
            raise TypeError(f'shared is {shared!r}; give a path, "redis://host:port/db", a pjfail.Shared, or False')
        return cls(str(shared))
