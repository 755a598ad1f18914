"""Two ways to keep an account on one server: pins, and the server's address in the account's Route."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ._values import dataclass
from .bridge import accounts, core, counts, pins
from .bridge.accounts import Account
from .bridge.pins import Pin
from .bridge.status import INVALID_OPERATION
from .errors import AffinityDisabled, AffinityError, BadServer, PjsipError, RouteRefused, UnknownAccount
from .model import TRANSPORTS, Family, Health, Server, Target, Transport

log = logging.getLogger("pjfail")


def account_id(account: object) -> int:
    """Returns the pjsua account id of *account*, which is an id or a pjsua2 ``Account``: SWIG's with its ``getId()``,
    or that of pjsua2-pybind11 with its ``id``. Raises TypeError for anything else.
    """
    number = account
    if not isinstance(account, type):
        get_id: Callable[[], Any] | None = getattr(account, "getId", None)
        number = getattr(account, "id", account) if get_id is None else get_id()
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{account!r} is not a valid account; give a pjsua account id or a pjsua2 Account")
    if not -(2**31) <= number < 2**31:
        raise UnknownAccount(f"pjsua has no account {number}")
    return number


def own_next_hop(account: Account) -> Target:
    """Returns the target of the account's requests. Raises AffinityError for an account without proxy and registrar."""
    if account.next_hop is None:
        raise AffinityError(
            f"account {account.id} ({account.aor}) has neither a proxy nor a registrar, so no server belongs to it"
        )
    return account.next_hop


def server_for(account: Account, server: Server | str) -> Server:
    """Returns the server that the application means for *account*, over the transport that the account uses to its next
    hop.

    Raises :class:`pjfail.BadServer`.
    """
    next_hop = own_next_hop(account)
    spoken: Transport | None = "tls" if next_hop.secure else next_hop.transport
    if isinstance(server, str):
        server = Server.parse(server, spoken or _transport_in_plans(server) or "udp")
    _require_server(server)
    if spoken is not None and server.transport != spoken:
        raise BadServer(
            f"{server}: account {account.id} speaks {spoken} to its server ({account.next_hop_uri}); "
            "a pin changes the address, not the transport"
        )
    require_reachable(server)
    return server


def route_server(account: Account, server: Server | str) -> Server:
    """Returns the server that the application means for *account*'s Route. Raises :class:`pjfail.BadServer`."""
    if isinstance(server, str):
        spoken = account.next_hop.transport if account.next_hop is not None else None
        server = Server.parse(server, spoken or "udp")
    _require_server(server)
    if not account.secure:
        require_reachable(server)
    return server


def _require_server(server: object) -> None:
    """Raises TypeError unless *server* is a Server or a string; the caller's program may not have been type-checked."""
    if not isinstance(server, Server):
        raise TypeError(f'{server!r} is not a valid server; give a Server or "address:port"')


def require_reachable(server: Server) -> None:
    """Raises :class:`pjfail.BadServer` if the endpoint has no transport for *server*, TypeError if *server* is not a
    Server.
    """
    _require_server(server)
    family: Family = "ipv6" if ":" in server.address else "ipv4"
    over = core.sendable()
    if over and (server.transport, family) not in over:
        version = "IPv6" if family == "ipv6" else "IPv4"
        raise BadServer(f"{server}: this endpoint has no {server.transport} transport over {version}; create one first")


def _transport_in_plans(text: str) -> Transport | None:
    """The transport over which some plan has this server."""
    for transport in TRANSPORTS:
        server = Server.parse(text, transport)
        if counts.stats(server) is not None:
            return server.transport
    return None


@dataclass(frozen=True, slots=True)
class _Held:
    """An application's pin, and whether it rests because its server is down.

    A pin that has ended (``server`` None) is kept while calls that began under it may still come back.
    """

    pin: Pin
    server: Server | None
    native: bool
    resting: bool = False


class Pins:
    """The application's own pins, under one lock. Any thread sets and ends pins; the worker lets a pin rest while its
    server is down.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[int, _Held] = {}
        self._ours: dict[int, str] = {}

    def enable(self, account: Account) -> None:
        """Makes pjfail keep *account* on its server where pjsip's own affinity cannot: pjsip fixes it when an account
        is created.
        """
        if accounts.has_native_affinity() and not account.affinity:
            with self._lock:
                self._ours[account.id] = account.aor

    def pin(self, account: Account, server: Server) -> None:
        """Sets the pin. Raises :class:`pjfail.AffinityError` and its subclasses; the earlier pin then stays."""
        native = accounts.has_native_affinity() and self._ours.get(account.id) != account.aor
        if native:
            _pin_natively(account, server)
        pin = Pin(account.id, account.aor, own_next_hop(account), server)  # pjsip's own ends with its connection
        with self._lock:
            pins.set_pin(pin)
            before = self._held.get(account.id)
            if before is not None and before.pin.aor != pin.aor:
                pins.drop_pin(before.pin)
            self._held[account.id] = _Held(pin, server, native)
        log.info("account %d (%s) is pinned to %s", account.id, account.aor, server)

    def unpin(self, account: int) -> None:
        with self._lock:
            held = self._held.get(account)
            if held is None or held.server is None:
                return
            ended = replace(held.pin, server=None, idle=True)
            pins.set_pin(ended)
            self._held[account] = replace(held, pin=ended, server=None)
        if held.native and accounts.account_is(account, held.pin.aor):
            accounts.native_pin(account, None)
        log.info("account %d (%s) is not pinned any more", account, held.pin.aor)

    def pinned(self, account: Account) -> Server | None:
        """Returns the server that *account* is pinned to. None also if the id belonged to another account when the pin
        was set.
        """
        with self._lock:
            held = self._held.get(account.id)
        return None if held is None or held.pin.aor != account.aor else held.server

    def pinned_accounts(self) -> list[Pin]:
        """Those that the application has pinned, and that pjsua has not deleted; one whose pin rests is ``idle``."""
        with self._lock:
            pinned = [replace(held.pin, idle=held.resting) for held in self._held.values() if held.server is not None]
        return [pin for pin in pinned if accounts.account_exists(pin.account)]

    def servers(self) -> Mapping[Server, str]:
        """Returns the servers that accounts are pinned to, each with a host name that the accounts know it by."""
        with self._lock:
            return {held.server: held.pin.next_hop.host for held in self._held.values() if held.server is not None}

    def __bool__(self) -> bool:
        with self._lock:
            return any(held.server is not None for held in self._held.values())

    def review(self, health: Mapping[Server, Health]) -> None:
        """Worker. Lets each pin rest whose server is down, and puts it in force again once the server is up."""
        with self._lock:
            for number, held in list(self._held.items()):
                if not accounts.account_exists(number):
                    pins.drop_pin(held.pin)
                    del self._held[number]
                    continue
                rests = held.server is not None and not health.get(held.server, Health()).usable
                if held.server is None or rests == held.resting:
                    continue
                pins.set_pin(replace(held.pin, idle=rests))
                if held.native:
                    accounts.native_pin_soon(number, held.pin.aor, None if rests else held.server)
                self._held[number] = replace(held, resting=rests)
                log.info(
                    "account %d (%s): its pin to %s %s",
                    number,
                    held.pin.aor,
                    held.server,
                    "rests while that is down" if rests else "holds again",
                )


def _pin_natively(account: Account, server: Server) -> None:
    try:
        accounts.native_pin(account.id, server)
    except PjsipError as error:
        if error.status != INVALID_OPERATION:
            raise AffinityError(f"account {account.id} cannot be pinned to {server}: {error}") from error
        if account.transport_id is not None:
            raise AffinityError(
                f"account {account.id} is bound to transport {account.transport_id} (sipConfig.transportId), which "
                "pjsip puts above any server affinity; give it no transport of its own, or use route_via()"
            ) from error
        raise AffinityDisabled(
            f"pjsip's server affinity is not enabled on account {account.id}: set sipConfig.serverAffinity before the "
            "account is created, or call enable_affinity() and have pjfail do it in pjsip's place"
        ) from error


@dataclass(frozen=True, slots=True)
class _Routed:
    """The proxies that an account had before :meth:`Routes.via`, and those it has now."""

    aor: str
    before: tuple[str, ...]
    now: tuple[str, ...]

    def holds_for(self, account: Account) -> bool:
        """Returns False for another account that has got the id since, and if the application has changed the proxies
        itself.
        """
        return self.aor == account.aor and self.now == account.proxies


class Routes:
    """Puts a server's address in place of an account's first proxy, and keeps the proxies to restore.

    The lock is never held while pjsua is called: pjsua calls the application back, which may call this object again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._routed: dict[int, _Routed] = {}

    def via(self, account: Account, server: Server) -> None:
        """Puts *server* into the Route. Raises :class:`pjfail.RouteRefused`, :class:`pjfail.PjsipError`."""
        if account.secure or server.transport == "tls":
            raise RouteRefused(
                f"account {account.id} ({account.aor}) speaks TLS: with {server.endpoint} in its Route, that address "
                "would be the name that TLS shows (SNI) and checks against the certificate; use pin() or follow(), "
                "which keep the host name"
            )
        parameter = "" if server.transport == "udp" else f";transport={server.transport}"
        routed = self._of(account)
        before = account.proxies if routed is None else routed.before
        proxies = (f"<sip:{server.endpoint}{parameter};lr>", *before[1:])
        self._keep(account.id, _Routed(account.aor, before, proxies))
        try:
            accounts.set_proxies(account.id, proxies)
        except BaseException:
            self._keep(account.id, routed)
            raise
        self._keep(account.id, _Routed(account.aor, before, accounts.read_account(account.id).proxies))
        log.info("account %d (%s) is routed via %s", account.id, account.aor, server)

    def restore(self, account: Account) -> None:
        """Gives the account the proxies that it had, unless the application has set other proxies since."""
        routed = self._of(account)
        if routed is not None:
            accounts.set_proxies(account.id, routed.before)
            log.info("account %d (%s) has its own route again", account.id, account.aor)
        self._keep(account.id, None)

    def has(self, account: Account) -> bool:
        return self._of(account) is not None

    def _of(self, account: Account) -> _Routed | None:
        with self._lock:
            routed = self._routed.get(account.id)
        return routed if routed is not None and routed.holds_for(account) else None

    def _keep(self, account: int, routed: _Routed | None) -> None:
        with self._lock:
            if routed is None:
                self._routed.pop(account, None)
            else:
                self._routed[account] = routed
