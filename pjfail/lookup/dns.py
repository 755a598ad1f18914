"""The lookup in the DNS: RFC 3263, with given name servers or the system's."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

from .._validation import is_amount, require_function, require_path, require_some_of
from ..errors import LookupFailed, UnknownTarget
from ..model import FAMILIES, TRANSPORTS, Candidate, Family, Target, Transport
from .cache import ROOM, Cache
from .files import ResolvConf, version_of
from .hosts import HostsFile
from .nameservers import NameServer, NameServers
from .protocol import TellStale
from .reachability import has_route
from .resolver import Resolver
from .rfc3263 import Client, NothingThere, UseOfNaptr, locate, name_of
from .stale import StaleRecorder, StaleTargets, TargetsInTrouble
from .trace import Trace, TracedResolver

if TYPE_CHECKING:
    from .cachefile import CacheFile

T = TypeVar("T")

# While the name servers are silent to a target's SRV questions, each lookup waits for them this share of the time.
SILENT_SHARE = 1 / 8

MAX_CNAMES = 16
LEAST_ROOM = 1 << 20  # octets; with less, an answer of some kB would count as large


class DnsLookup:
    """Finds servers by RFC 3263: NAPTR, SRV, A and AAAA.

    *nameservers* are ``"192.0.2.53"``, ``"192.0.2.54:5353"``, ``"[2001:db8::53]:5353"``; None takes those of
    *resolv_conf*, which is read again when it changes; while it names none, a warning in the log says so, and each host
    is an :class:`pjfail.UnknownTarget`, left to the system. *transports* and *families* are those that may be used, in
    order of preference; None takes those that the endpoint has once pjfail is attached, and all of them without an
    endpoint. *naptr* "on" asks for NAPTR records where RFC 3263 does, "off" never, "always" also if the URI names a
    transport. *has_route* returns whether packets can reach a numeric address; candidates that they cannot reach stand
    behind the others, whatever their family (RFC 6724).

    A lookup ends within *timeout* seconds. A DNS answer is kept for its TTL, at least *ttl_floor* and at most
    *ttl_ceiling* seconds of *clock*. While the name servers are silent or fail, the last good answer is used for up to
    *max_stale* seconds after its TTL (RFC 8767; 0: not at all): its candidates have a TTL of 30 s, and one log line
    says so. If the name servers answer, but not the questions for NAPTR and SRV records, as some routers do, the
    addresses of the host are used, for 30 s at a time; one log line says that, too. With *cache_file* the answers are
    also kept in that file, and used after a restart. All answers together take at most *cache_room* octets of memory;
    beyond that, those that were asked for longest ago are dropped.

    Hosts in the file *hosts* have their addresses from there (None: no such file). International names are asked for as
    IDNA 2008 writes them. Search domains and multicast DNS are left to the system: if the name servers lead to no
    server, the lookup raises :class:`pjfail.UnknownTarget` for a host of one label (without a dot at its end), a host
    in ``.local``, and a host of the hosts file. A name behind more than *cname_limit* CNAMEs (16 at most) is not
    followed. *trace* gets each question to the name servers, and its answer.

    Raises :class:`pjfail.BadServer` for an invalid name server, TypeError for what is not a function or a path, and
    ValueError for another invalid argument. Reads the cache file.
    """

    def __init__(
        self,
        nameservers: Sequence[str] | None = None,
        *,
        transports: Sequence[Transport] | None = None,
        families: Sequence[Family] | None = None,
        naptr: UseOfNaptr = "on",
        timeout: float = 3.0,
        ttl_floor: float = 1.0,
        ttl_ceiling: float = 86400.0,
        max_stale: float = 86400.0,
        cache_file: str | Path | None = None,
        cache_room: int = ROOM,
        hosts: str | Path | None = "/etc/hosts",
        resolv_conf: str | Path = "/etc/resolv.conf",
        cname_limit: int = MAX_CNAMES,
        trace: Trace | None = None,
        clock: Callable[[], float] = time.monotonic,
        has_route: Callable[[str], bool] = has_route,
    ) -> None:
        require_client(transports, families, timeout)
        if naptr not in get_args(UseOfNaptr):
            raise ValueError(f"naptr is {naptr!r}; give one of {', '.join(get_args(UseOfNaptr))}")
        for name, seconds in (("ttl_floor", ttl_floor), ("ttl_ceiling", ttl_ceiling)):
            if not is_amount(seconds, most=math.inf):
                raise ValueError(f"{name} is {seconds!r}; give seconds")
        if ttl_floor > ttl_ceiling:
            raise ValueError(f"ttl_floor is {ttl_floor!r}; give at most ttl_ceiling, {ttl_ceiling!r}")
        if not is_amount(max_stale, most=math.inf):
            raise ValueError(f"max_stale is {max_stale!r}; give seconds, 0 for no answer beyond its TTL")
        if not is_amount(cache_room, least=LEAST_ROOM):
            raise ValueError(f"cache_room is {cache_room!r}; give octets, {LEAST_ROOM} (1 MB) or more")
        if not (isinstance(cname_limit, int) and 0 <= cname_limit <= MAX_CNAMES):
            raise ValueError(f"cname_limit is {cname_limit!r}; give a whole number from 0 to {MAX_CNAMES}")
        require_path("resolv_conf", resolv_conf)
        for name, path in (("hosts", hosts), ("cache_file", cache_file)):
            if path is not None:
                require_path(name, path)
        if trace is not None:
            require_function("trace", trace, ("line",), "None")
        require_function("clock", clock, (), "seconds")
        require_function("has_route", has_route, ("address",), "bool")
        given = None if nameservers is None else NameServer.parse_all(nameservers)
        if given == []:
            raise ValueError("nameservers is empty; give at least one, or None for the system's")
        self._resolv_conf = ResolvConf(Path(resolv_conf)) if given is None else None
        if self._resolv_conf is not None:
            self._resolv_conf.servers()  # what is wrong with the file is told now
        self._timeout = timeout
        self._transports = None if transports is None else tuple(transports)
        self._families = None if families is None else tuple(families)
        self._client = Client(self._transports or TRANSPORTS, self._families or FAMILIES, naptr, timeout / 3, has_route)
        self._file = None if cache_file is None else _cache_file(Path(cache_file))
        self._stale = StaleTargets()
        self._silent = TargetsInTrouble(
            "%s is found by the addresses of its host, because the name servers are silent to other questions: %s",
            "%s: the name servers answer the questions for its SRV records again",
        )
        # A question ends shortly before the lookup, because its error says more: which server was asked what.
        servers = (lambda: given or ()) if self._resolv_conf is None else self._resolv_conf.servers
        wire = NameServers(servers, timeout=0.9 * timeout, cname_limit=cname_limit, clock=clock)
        self._cache = Cache(
            wire if trace is None else TracedResolver(wire, trace),
            floor=ttl_floor,
            ceiling=ttl_ceiling,
            max_stale=max_stale,
            # A lookup asks three questions in a row: together they take the 1.8 s of RFC 8767 section 5.
            hurry=timeout / 5,
            clock=clock,
            learnt=self._learnt,
            answers=None if self._file is None else self._file.load(),
            room=int(cache_room),
        )
        self._hosts = None if hosts is None else HostsFile(Path(hosts), self._cache)
        self._resolver: Resolver = self._hosts or self._cache
        self._files = tuple(Path(path) for path in (hosts, resolv_conf if given is None else None) if path is not None)
        self._versions = [version_of(path) for path in self._files]

    async def lookup(self, target: Target) -> list[Candidate]:
        """Returns the candidates of *target*, at least one, by priority; the weights are not applied yet.

        For a numeric host returns that one candidate and asks nothing. Runs in the asyncio loop of the caller, and in
        one loop at a time. Raises :class:`pjfail.LookupFailed`: temporary if name servers were silent or failed, not
        temporary if they said that there is no such name or service; :class:`pjfail.UnknownTarget` if the system may
        know more.
        """
        recorder = StaleRecorder(self._resolver)
        client = self._client
        if target in self._silent:
            client = replace(client, patience=SILENT_SHARE * client.patience)
        silent: list[str] = []
        try:
            async with asyncio.timeout(self._timeout):
                found = await locate(target, recorder, client, silent.append)
        except TimeoutError:
            failure = LookupFailed(
                f"{target}: the name servers did not give all answers within {self._timeout:g} s", temporary=True
            )
        except LookupFailed as error:
            failure = error
        else:
            self._stale.found(target, recorder.stale)
            self._silent.note(target, "".join(silent))
            return found
        temporary = failure.temporary or bool(recorder.stale)  # an old "there is none" is not final
        if (temporary or isinstance(failure, NothingThere)) and self._system_may_know(target.host):
            raise UnknownTarget(str(failure), temporary=temporary)
        raise LookupFailed(str(failure), temporary=temporary)

    def adapt(self, transports: Sequence[Transport], families: Sequence[Family]) -> None:
        """From now on finds only what an endpoint with *transports* and *families* can use.

        If the constructor was given an order of preference, that order applies to what the endpoint has; otherwise the
        order given here. Empty arguments mean that it is not known, so everything is allowed. Called by the worker.
        """
        self._client = replace(
            self._client,
            transports=in_common(self._transports, transports or TRANSPORTS),
            families=in_common(self._families, families or FAMILIES),
        )

    def files(self) -> Sequence[Path]:
        """The hosts file and resolv.conf, where they are read."""
        return self._files

    def files_changed(self) -> bool:
        """Whether the hosts file or resolv.conf has changed since the last call: all is asked anew then."""
        versions = [version_of(path) for path in self._files]
        changed, self._versions = versions != self._versions, versions
        if changed:
            self._cache.ask_anew()
        return changed

    def ask_anew(self) -> None:
        """Has each answer that is kept asked for again at its next use; until there is a newer one, it serves."""
        self._cache.ask_anew()

    def on_stale(self, tell: TellStale) -> None:
        """Calls *tell*, in the loop, with each target whose servers are found by old answers from then on, and the
        reason.
        """
        self._stale.on_stale(tell)

    def _learnt(self) -> None:
        if self._file is not None:
            self._file.save_soon(self._cache.answers)

    def _system_may_know(self, host: str) -> bool:
        """Whether this machine may give *host* a meaning besides the DNS: search domains, mDNS, the hosts file.

        Whatever the host, where no name server is known.
        """
        if self._resolv_conf is not None and not self._resolv_conf.servers():
            return True
        *others, last = host.removesuffix(".").split(".")
        if last == "local" or not (others or host.endswith(".")):
            return True
        return self._hosts is not None and self._hosts.lists(name_of(host))


def _cache_file(path: Path) -> CacheFile:
    from .cachefile import CacheFile  # few have one, and it imports json

    return CacheFile(path)


def in_common(preferred: Sequence[T] | None, had: Sequence[T]) -> tuple[T, ...]:
    """Returns those of *preferred* (None: no preference) that an endpoint with *had* can use, in order of
    preference.
    """
    return tuple(had) if preferred is None else tuple(each for each in preferred if each in had)


def require_client(transports: object, families: object, timeout: float) -> None:
    """Raises ValueError unless these arguments of a lookup are valid."""
    require_some_of("transports", transports, TRANSPORTS)
    require_some_of("families", families, FAMILIES)
    if not (is_amount(timeout) and timeout > 0):
        raise ValueError(f"timeout is {timeout!r}; give the seconds that a lookup may take")
