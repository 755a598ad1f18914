"""``attach()``, and ``Failover``, which an attached application calls."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Unpack, runtime_checkable

from . import host as hosts
from ._validation import checked_listeners, is_amount, require, require_function
from .affinity import account_id, own_next_hop, require_reachable, route_server, server_for
from .bridge import accounts, core, counts, plans
from .bridge.accounts import Account
from .bridge.counts import Counters, RoundTrips
from .control.service import Control
from .errors import DETACHED, AffinityError, BadServer, NotAttached, PjfailError
from .events import Listener
from .follow_settings import Changes, Follow
from .following import FollowedAccount
from .lookup import Lookup
from .lookup.optional import require_lookup
from .model import Health, Plan, Response, Server, State, Target, Transport, parse_server
from .order import Order
from .policy import Policy
from .probe import Probe
from .request import Headers, Sent, awaitable, timeout_error
from .resolution import asked_target
from .retry import RetryPolicy
from .shared import Shared
from .worker import Worker

if TYPE_CHECKING:
    from .lookup import StaticLookup
    from .lookup.static import Listed
    from .shared.sharing import SharedStatus

log = logging.getLogger("pjfail")

# Seconds that a query may wait for the worker before an old plan or the system's resolver answers it. A lookup takes at
# most 3 s; users give up after 5 s.
QUESTION_DEADLINE = 3.5

# The newest Failover of this process, attached or not; its worker's thread keeps it alive while it is attached.
_latest: weakref.ref[Failover] | None = None


def attach(
    servers: StaticLookup | Mapping[str, Iterable[Listed]] | None = None,
    lookup: Lookup | None = None,
    policy: Policy | Order | None = None,
    probe: Probe | None = None,
    retry: RetryPolicy | None = None,
    follow: bool | Follow = True,
    listeners: Iterable[Listener] = (),
    host: str | Path | ModuleType | None = None,
    control: bool | str | Path | None = None,
    shared: Shared | str | Path | Literal[False] | None = None,
) -> Failover:
    """Makes the pjsip of this process ask pjfail where its requests go, and watch what becomes of them.

    Call it once, after ``libInit()`` (after ``libStart()`` is fine), from a Python thread. From then on the servers
    of a SIP domain are those that *servers* lists, ``{"voip.example": ["192.0.2.1", "sip2.example.com:5080"]}``, in
    this order (:class:`pjfail.StaticLookup` says what may stand there; give one to be able to ``update()`` it). The
    servers of every other domain, and the addresses of listed names, are found by *lookup* (default:
    :class:`pjfail.DnsLookup` with the system's name servers). All are ordered by *policy* (a :class:`pjfail.Policy`, or
    a plain function ``(candidates, health) -> candidates``).
    *probe* says when servers are asked whether they are alive (default: :class:`pjfail.Probe`, as it is).
    *retry* says when a request under way fails over to the next server (default: :class:`pjfail.RetryPolicy`).
    *follow* says whether and how accounts are kept on the servers that they registered with: True (every account that
    has a registrar, those too that are made later), False (only those of :meth:`Failover.follow`), or a
    :class:`pjfail.Follow`.
    *listeners* are called with :mod:`pjfail.events`; ready ones are in :mod:`pjfail.listeners`. *host* is the loaded
    module or library that contains pjsip, for a process in which two do. *control* is True for a control socket, by
    which ``python -m pjfail watch`` and ``ctl`` see and steer this process, or a path to have it there; by default the
    variable ``PJFAIL_CONTROL`` of the environment says so (``1``, or a path). *shared* is where the processes of a
    fleet keep what they have learnt of servers: a path, ``redis://host:port/db``, or a :class:`pjfail.Shared`; by
    default the variable ``PJFAIL_SHARED`` says so, and with False there is none. ``attach()`` waits one second at most
    for the first reading.

    Detaching happens with :meth:`Failover.detach`, at the end of a ``with`` block, when the endpoint is destroyed,
    and at interpreter exit. Raises :class:`pjfail.HostError`, :class:`pjfail.ControlError`, :class:`pjfail.BadServer`
    for what is wrong in *servers*, ValueError for what is wrong in *shared*, another :class:`pjfail.PjfailError` where
    that is a Redis and redis-py is missing, and TypeError for an argument of another kind.
    """
    if policy is None:
        policy = Policy()
    elif not isinstance(policy, Policy):
        arguments = ("candidates", "health")
        require_function("policy", policy, arguments, "candidates", keywords=("request",), instead="a Policy, or ")
        policy = Policy(order=policy)
    table = None if servers is None else _table(servers)
    if lookup is None:
        from .lookup import DnsLookup

        lookup = DnsLookup()
    require_lookup("lookup", lookup)
    if table is not None:
        from .lookup import ChainLookup

        lookup = ChainLookup(table, lookup)
    probe = Probe() if probe is None else probe
    require("probe", probe, Probe, "a Probe")
    retry = RetryPolicy() if retry is None else retry
    require("retry", retry, RetryPolicy, "a RetryPolicy, or RetryPolicy.off()")
    found = attached()
    if found is not None and found.gives_way:
        found.detach()
    hear, wanted = checked_listeners(listeners), (Control.wanted(control), Shared.wanted(shared))
    return Failover(lookup, policy, probe, retry, _followed(follow), hear, host, *wanted)


def _table(servers: StaticLookup | Mapping[str, Iterable[Listed]]) -> StaticLookup:
    from .lookup import StaticLookup  # many list no servers

    return servers if isinstance(servers, StaticLookup) else StaticLookup(servers)


def attached() -> Failover | None:
    """Returns the :class:`Failover` that is attached to the pjsip of this process, or None. Any thread.

    Returns None also in a forked child of the process that attached.
    """
    failover = None if _latest is None else _latest()
    return failover if failover is not None and failover.attached else None


@runtime_checkable
class Attached(Protocol):
    """A listener that needs the :class:`Failover` it listens to."""

    def on_attach(self, failover: Failover) -> object:
        """Called once, on the thread that attaches, after pjfail has attached."""


class Failover:
    """An attached pjfail, made by :func:`attach`. Any thread may call the methods, unless a method says otherwise.

    Methods that change something wait for pjfail's thread, and raise :class:`pjfail.WorkerBusy` where a listener,
    policy or lookup holds that up for 5 s.

    ``pjsip_version`` is what the loaded pjsip's ``pj_get_version()`` returns, for example "2.17". A ``with`` block
    detaches at its end.
    """

    def __init__(
        self,
        lookup: Lookup,
        policy: Policy,
        probe: Probe,
        retry: RetryPolicy,
        follow: Follow | None,
        listeners: tuple[Listener, ...],
        host: str | Path | ModuleType | None,
        control: Control | None,
        shared: Shared | None = None,
    ) -> None:
        self.pjsip_version = hosts.bind(host)
        self._process = os.getpid()
        self._once = threading.Lock()
        self._ended = False
        self.gives_way = False  # to an attach() of the program's own: it was attached without one (see launch.py)
        self._follow = follow
        self._control = control
        hear: tuple[Listener, ...] = listeners if control is None else (*listeners, control)
        self._worker = Worker(
            lookup,
            policy,
            probe,
            follow,
            hear,
            self._end,
            decide=retry.decide,
            clusters=retry.dialogs,
            shared=shared,
        )
        plans.ask_each(policy.per_request)
        self._attachment = core.attach(QUESTION_DEADLINE, retry, find_accounts=follow is not None)
        try:
            if control is not None:
                control.open(self, self._worker, version("pjfail"))
            self._worker.start(self._attachment)
        except BaseException:
            core.detach(self._attachment)
            if control is not None:
                control.close()
            raise
        global _latest  # noqa: PLW0603 - there is one pjsip in a process, and so one Failover at a time
        _latest = weakref.ref(self)
        atexit.register(_detach_at_exit, _latest)
        log.info("pjfail is attached to pjsip %s", self.pjsip_version)
        for listener in listeners:
            if isinstance(listener, Attached):
                try:
                    listener.on_attach(self)
                except Exception:
                    log.exception("a listener failed on being attached")

    def __repr__(self) -> str:
        return f"<Failover, {'attached to' if self.attached else 'detached from'} pjsip {self.pjsip_version}>"

    def __enter__(self) -> Failover:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    @property
    def attached(self) -> bool:
        """Whether pjsip still queries pjfail: False after a detach, after the endpoint's end, and in a forked child."""
        return not self._ended and os.getpid() == self._process and core.attachment() == self._attachment

    def detach(self) -> None:
        """Leaves pjsip as pjfail found it; pjsip's own resolver answers the queries that wait. May be called again.

        Do not call it while you hold a lock that one of your pjsua2 callbacks takes. Waits for what is under way: 0.5 s
        at the most for standby registrations to be removed, 2 s for SIP threads, 2 s for a listener or policy.
        """
        if self._end():
            log.info("pjfail is detached")

    def _end(self) -> bool:
        """Detaches. Returns True only to the first caller, and never in a forked child, where the worker is the
        parent's.
        """
        if os.getpid() != self._process:
            return False
        with self._once:
            if self._ended:
                return False
            self._ended = True
        self._worker.maintenance.standbys.end()
        core.detach(self._attachment)
        self._worker.stop()
        if self._control is not None:
            self._control.close()
        return True

    def _require_attached(self) -> None:
        if os.getpid() != self._process:
            raise NotAttached("pjfail is attached in the parent process, not in this forked child")
        if not self.attached:
            raise NotAttached(DETACHED)

    def resolve(self, uri: str, timeout: float = 5.0) -> Plan:
        """Returns the plan for requests to *uri*: the servers in order, each with the reason for its position.

        Returns the plan in force if there is one; otherwise looks the servers up. Blocks up to *timeout* seconds; do
        not call it from a listener or policy (RuntimeError). Raises :class:`pjfail.BadURI`,
        :class:`pjfail.LookupFailed`, :class:`pjfail.NotAttached`, and ValueError if *timeout* is not a positive number.
        """
        self._require_attached()
        _require_timeout(timeout)
        return self._worker.resolve(asked_target(uri), timeout)

    def refresh(self, uri: str | None = None) -> None:
        """Has the servers of *uri*, or of all known targets, looked up again: not from what a lookup remembers.

        Meanwhile, and where that fails, requests go by the plans in force. Returns once the lookups are under way;
        ``events.PlanChanged`` tells what they have changed. All that a lookup remembers is asked for again when it is
        needed next, if it has a method ``ask_anew()``, as :class:`pjfail.DnsLookup` has (:class:`pjfail.PjsipDnsLookup`
        cannot empty pjsip's cache). Raises :class:`pjfail.BadURI`, :class:`pjfail.NotAttached`,
        :class:`pjfail.WorkerBusy`.
        """
        self._require_attached()
        target = None if uri is None else asked_target(uri)
        self._worker.call(lambda: self._worker.resolution.refresh(target))

    def servers(self) -> Mapping[Server, Health]:
        """Returns the health of every server that is in a plan, and of other servers that failed lately. Never blocks.

        All targets together have at most 100 000 servers, and pjfail keeps the health of at most 20 000 servers.
        """
        self._require_attached()
        return self._worker.monitor.health()

    def shared(self) -> SharedStatus | None:
        """Returns the state of the memory that processes share (``attach(shared=)``), or None. Never blocks."""
        self._require_attached()
        return None if self._worker.sharing is None else self._worker.sharing.status()

    def mark_down(self, server: Server | str, seconds: float | None = None) -> None:
        """Puts *server* behind the others for *seconds*, or until :meth:`restore`. Its answers do not end that.

        *server* is a ``Server``, "tls:address:port", or one in pjfail's plans: "address:port", "address" or a host
        name, for whatever transport and port it has there. In force when this returns. Raises
        :class:`pjfail.BadServer`, :class:`pjfail.NotAttached`, :class:`pjfail.WorkerBusy`, and ValueError for seconds
        that are not valid.
        """
        if seconds is not None and not (is_amount(seconds, most=threading.TIMEOUT_MAX) and seconds > 0):
            most = f"{threading.TIMEOUT_MAX:.0f}"
            raise ValueError(f"seconds is {seconds!r}; give more than 0, at most {most}, or None for until restored")

        def down(health: Health, now: float) -> Health:
            until = None if seconds is None else now + seconds
            return _held(health, State.DOWN, now, until, "marked down by the application")

        self._set_health(server, down)

    def drain(self, server: Server | str) -> None:
        """Sends new requests elsewhere until :meth:`restore`; dialogs stay with *server* (as in :meth:`mark_down`)."""

        def draining(health: Health, now: float) -> Health:
            return _held(health, State.DRAINING, now, None, "drained by the application")

        self._set_health(server, draining)

    def restore(self, server: Server | str) -> None:
        """Makes *server* (as in :meth:`mark_down`) up again, whatever was recorded against it."""

        def up(health: Health, now: float) -> Health:
            return Health(
                since=now,
                reason="restored",
                rtt=health.rtt,
                last_answer=health.last_answer,
                rttvar=health.rttvar,
                generation=health.generation + 1,
            )

        self._set_health(server, up)

    def _set_health(self, server: Server | str, change: Callable[[Health, float], Health]) -> None:
        self._require_attached()

        def apply() -> None:
            self._worker.monitor.set_health(self._named(server), change)

        self._worker.call(apply)

    def _named(self, server: Server | str) -> list[Server]:
        """Worker. Returns the servers that the application means."""
        if isinstance(server, Server):
            return [server]
        if not isinstance(server, str):
            raise TypeError(f'{server!r} is not a valid server; give a Server or "address:port"')
        transport, host, port = parse_server(server)
        found = self._worker.monitor.find(transport, host, port)
        if not found and transport is not None and Target(host).is_numeric:
            return [Server.parse(server)]
        if not found:
            first_use = f'to name it before its first use, write "udp:{server.strip()}"'
            hint = first_use if Target(host).is_numeric else "name its address"
            raise BadServer(f"{server!r} is not in any plan yet; {hint}")
        return found

    def _by_name(self, server: Server | str, spoken: Transport | None) -> Server | str:
        """*server*, but the server in our plans where it is a host name. Raises :class:`pjfail.BadServer`."""
        if not isinstance(server, str):
            return server
        transport, host, port = parse_server(server)
        if Target(host).is_numeric:
            return server
        found = self._worker.monitor.find(transport or spoken, host, port)
        if len(found) != 1:
            leads = f"to several: {', '.join(map(str, found))}" if found else "to no server in any plan yet"
            raise BadServer(f"{server!r} is a host name that leads {leads}; give the address of one")
        return found[0]

    # --- accounts -----------------------------------------------------------------------------------------------------

    def pin(self, account: object, server: Server | str) -> None:
        """Keeps *account* on *server*: all its requests to its own next hop go there.

        The next hop is the first of ``outboundProxies``, else the account's first proxy, else its registrar; a request
        URI with that host counts also without the port and transport. Dialogs stay on their servers, and requests to
        other hosts are not affected.

        *account* is a pjsua account id or a pjsua2 ``Account``, *server* a ``Server``, "address:port", "address", or
        the host name of one in the plans. TLS still shows and checks the account's own host name. In force when this
        returns; :meth:`unpin` ends it. While *server* is down the pin rests, and the account's plan decides. If pjsip
        has its own server affinity (after 2.17), pjfail uses that: ``pjsua_acc_set_affinity_addr()``.

        Do not call it while you hold a lock that one of your pjsua2 callbacks takes. Raises
        :class:`pjfail.UnknownAccount`, :class:`pjfail.BadServer`, :class:`pjfail.AffinityDisabled`,
        :class:`pjfail.AffinityError`, :class:`pjfail.NotAttached`; the earlier pin then stays.
        """
        settings = self._account(account)
        chosen = server_for(settings, self._by_name(server, _spoken(settings)))
        if self._follows_by_order(settings):
            raise AffinityError(f"account {settings.id} follows its servers: unfollow() it before pinning it")
        self._require_no_route(settings)
        with self._taken_over(settings):
            self._worker.maintenance.pins.pin(settings, chosen)
        self._worker.maintenance.wake()

    def unpin(self, account: object) -> None:
        """Ends the account's :meth:`pin`, if there is one. Raises :class:`pjfail.NotAttached`."""
        self._require_attached()
        number = account_id(account)
        self._worker.maintenance.pins.unpin(number)
        self._consider(number)

    def pinned(self, account: object) -> Server | None:
        """Returns the server that *account* is pinned to, or at this moment followed on; otherwise None.

        Raises :class:`pjfail.UnknownAccount`, :class:`pjfail.NotAttached`.
        """
        settings = self._account(account)
        return self._worker.maintenance.pins.pinned(settings) or self._worker.maintenance.follower.server(settings.id)

    def accounts(self) -> Mapping[int, Server | None]:
        """The accounts (pjsua's ids) that are followed or pinned, each with its server.

        None stands for an account whose plan decides at this moment. Never blocks.
        """
        self._require_attached()
        maintenance = self._worker.maintenance
        followed = {each.account: each.server for each in maintenance.follower.followed()}
        return followed | {pin.account: None if pin.idle else pin.server for pin in maintenance.pins.pinned_accounts()}

    @property
    def native_affinity(self) -> bool:
        """Whether this pjsip has its own server affinity, which :meth:`pin` then uses."""
        self._require_attached()
        return accounts.has_native_affinity()

    def enable_affinity(self, account: object) -> None:
        """Lets :meth:`pin` work on an account that was created without pjsip's own server affinity.

        pjsip (after 2.17) reads ``sipConfig.serverAffinity`` only when an account is created. For this account pjfail
        then does what pjsip's affinity would do, as it does with every earlier pjsip. Raises the exceptions of
        :meth:`pin`.
        """
        self._worker.maintenance.pins.enable(self._account(account))

    def follow(self, account: object, **changes: Unpack[Changes]) -> None:
        """Keeps *account* on a working server: on the one that it registered with, for all its requests.

        When that server fails, the account's requests go to the next server of its plan at once, and the account
        registers there within the seconds of ``spread`` (at a random moment, so that many accounts do not register
        together). Dialogs stay on their servers. When a server in a better tier has been up for ``failback`` seconds,
        the account registers there, and moves once that REGISTER is accepted. ``events.AccountMoved`` reports each
        move.

        ``attach(follow=True)`` does so for every account; this gives one account settings of its own, or follows one
        that is not followed. *changes* are the settings of :class:`pjfail.Follow` that differ for this account from
        those in ``attach(follow=)``.

        Call it before or after the account has registered. pjfail leaves an account that unregisters alone until it
        registers again. A second call changes the settings. pjfail honours the Retry-After of a REGISTER. An account
        leaves a server that fails two of its registrations in a row, for itself alone; 401, 403, 404, 407, 423 and 6xx
        do not count. Raises the exceptions of :meth:`pin`, and ValueError for an invalid setting.
        """
        self._require_attached()
        chosen = replace(self._worker.maintenance.settings, **changes)
        settings = self._account(account)
        next_hop = own_next_hop(settings)
        if not settings.registers:
            raise AffinityError(f"account {settings.id} ({settings.aor}) has no registrar: there is nothing to follow")
        if self._worker.maintenance.pins.pinned(settings) is not None:
            raise AffinityError(f"account {settings.id} is pinned: unpin() it before it can follow its servers")
        if settings.affinity:
            raise AffinityError(
                f"account {settings.id} was created with pjsip's own server affinity, which keeps it on the server "
                "that it registered with, dead or alive: create it with sipConfig.serverAffinity disabled"
            )
        self._require_no_route(settings)
        followed = FollowedAccount(settings.id, settings.aor, next_hop, chosen)
        self._worker.call(lambda: self._worker.maintenance.follow(followed))

    def unfollow(self, account: object) -> None:
        """Ends the following of *account*, whoever began it: its plan decides again. Raises :class:`NotAttached`,
        :class:`WorkerBusy`.

        Until it is deleted, the account is followed again only by :meth:`follow`.
        """
        self._require_attached()
        number = account_id(account)
        try:
            settings = accounts.read_account(number)
        except PjfailError:  # it is gone
            settings = None

        def leave() -> None:
            if settings is not None:
                self._worker.maintenance.finder.leave(settings)
            self._worker.maintenance.unfollow(number)

        self._worker.call(leave)

    def route_via(self, account: object, server: Server | str | None) -> None:
        """Puts *server*'s address into *account*'s Route, in place of its first proxy: the classic way for UDP and TCP.

        The account's other proxies and its credentials stay. With None the account gets back the proxies that it had.
        Calls ``pjsua_acc_modify()``, which registers again if the account is registered. pjfail does not watch a route:
        it stays until you change it. Raises :class:`pjfail.RouteRefused` for an account that uses TLS, and the
        exceptions of :meth:`pin`.
        """
        settings = self._account(account)
        maintenance = self._worker.maintenance
        if server is None:
            maintenance.routes.restore(settings)
            self._consider(settings.id)
            return
        if maintenance.pins.pinned(settings) is not None or self._follows_by_order(settings):
            raise AffinityError(f"account {settings.id} is pinned or followed: unpin() or unfollow() it first")
        if settings.affinity:
            raise AffinityError(
                f"pjsip's own server affinity is enabled on account {settings.id}: it keeps the account where it has "
                "registered, whatever its Route says; use pin() or follow()"
            )
        chosen = route_server(settings, self._by_name(server, _spoken(settings)))
        with self._taken_over(settings):
            maintenance.routes.via(settings, chosen)

    @contextmanager
    def _taken_over(self, account: Account) -> Iterator[None]:
        """Ends the following that has begun by itself for the block, in which *account* gets another keeper."""
        if self._follow is not None:
            self._worker.call(lambda: self._worker.maintenance.finder.take_over(account))
        try:
            yield
        finally:
            self._consider(account.id)

    def _consider(self, number: int) -> None:
        """Has account *number* followed again, if that is how all are and nothing else keeps it."""
        if self._follow is not None:
            self._worker.call(lambda: self._worker.maintenance.finder.consider(number))

    def _follows_by_order(self, account: Account) -> bool:
        """Returns whether the application itself has called :meth:`follow`."""
        followed = self._worker.maintenance.follower.get(account.id)
        return followed is not None and followed.aor == account.aor and not followed.automatic

    def _account(self, account: object) -> Account:
        self._require_attached()
        return accounts.read_account(account_id(account))

    def _require_no_route(self, account: Account) -> None:
        if self._worker.maintenance.routes.has(account):
            raise AffinityError(f"account {account.id} has a route of its own: route_via(account, None) ends it")

    # --- requests -----------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        uri: str,
        server: Server | str | None = None,
        headers: Headers = (),
        body: bytes | str = b"",
        timeout: float = 5.0,
    ) -> Response:
        """Sends one request outside any dialog, and returns its final response, whatever the code. *method* is in
        capitals.

        With *server* the request goes to exactly that server, over a transport that pjfail acquires for it; TLS shows
        and checks the host of *uri*. Without *server* the plan of *uri* decides, and the request fails over as the
        :class:`pjfail.RetryPolicy` says. *headers* are pairs or a mapping, and may include From, To and Content-Type
        (default: text/plain). *timeout* is in seconds. Blocks: call :meth:`request_async` in a pjsua2 callback, and in
        the thread that polls ``libHandleEvents()``.

        Raises :class:`pjfail.RequestTimeout`, :class:`pjfail.RequestFailed`, :class:`pjfail.BadURI`,
        :class:`pjfail.BadServer`, :class:`pjfail.NotAttached`, ValueError for an invalid method, header or timeout, and
        RuntimeError in a listener or policy.
        """
        if self._worker.is_current():
            raise RuntimeError("request() waits for pjfail's worker; do not call it from a listener or policy")
        with self._sent(method, uri, server, headers, body, timeout) as sent:
            return sent.result(timeout)

    async def request_async(
        self,
        method: str,
        uri: str,
        server: Server | str | None = None,
        headers: Headers = (),
        body: bytes | str = b"",
        timeout: float = 5.0,
    ) -> Response:
        """Does what :meth:`request` does, for asyncio."""
        with self._sent(method, uri, server, headers, body, timeout) as sent, awaitable(sent) as future:
            return await asyncio.wait_for(future, timeout)

    @contextmanager
    def _sent(
        self,
        method: str,
        uri: str,
        server: Server | str | None,
        headers: Headers,
        body: bytes | str,
        timeout: float,
    ) -> Iterator[Sent]:
        """Sends a request for the block, which waits up to *timeout* seconds for the response; nobody waits after the
        block.
        """
        self._require_attached()
        _require_timeout(timeout)
        if isinstance(server, str):
            target = Target.parse(uri)
            spoken: Transport | None = "tls" if target.secure else target.transport
            named = self._by_name(server, spoken)
            server = named if isinstance(named, Server) else Server.parse(named, spoken or "udp")
        if server is not None:
            require_reachable(server)
        sent = self._worker.requests.send(method, uri, server, headers, body)
        try:
            yield sent
        except TimeoutError:
            raise timeout_error(sent, timeout) from None
        finally:
            self._worker.requests.forget(sent)

    def counters(self) -> Counters:
        """Returns what the C core has counted: queries, where their answers came from, and what it holds now. Never
        blocks.
        """
        return counts.counters()

    def round_trips(self) -> Mapping[Transport, RoundTrips]:
        """Returns how long servers took to answer, by transport, since pjfail was loaded. Never blocks."""
        return counts.round_trips()


def _spoken(account: Account) -> Transport | None:
    """The transport that *account* speaks to its next hop, None where it may be any."""
    next_hop = account.next_hop
    return None if next_hop is None else "tls" if next_hop.secure else next_hop.transport


def _followed(follow: object) -> Follow | None:
    """How ``attach(follow=)`` has all accounts followed; None: none is."""
    if isinstance(follow, bool):
        return Follow() if follow else None
    require("follow", follow, Follow, "True, False or a Follow")
    return follow  # type: ignore[return-value]  # require() has looked


def _require_timeout(timeout: float) -> None:
    if not (is_amount(timeout, most=threading.TIMEOUT_MAX) and timeout > 0):
        raise ValueError(f"timeout is {timeout!r}; give seconds, more than 0")


def _held(health: Health, state: State, now: float, until: float | None, reason: str) -> Health:
    """Returns *health* as the application set it; answers do not end that."""
    return replace(
        health,
        state=state,
        since=now,
        until=until,
        reason=reason,
        held=True,
        generation=health.generation + 1,
        returning=False,
        returns_at=None,
    )


def _detach_at_exit(reference: weakref.ref[Failover]) -> None:
    failover = reference()
    if failover is not None:
        failover.detach()
    core.finish_at_exit()
