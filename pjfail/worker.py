"""The worker: pjfail's one Python thread, with an asyncio loop. It takes what SIP threads queued, and hands it to its
parts.

Other threads call :meth:`Worker.call` and :meth:`Worker.resolve`. No SIP thread ever waits for the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import CancelledError
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from . import events
from .bridge import accounts, core, queue
from .calls import Calls
from .errors import DETACHED, LookupFailed, NotAttached, WorkerBusy
from .follow_settings import Follow
from .health import HealthTable
from .lookup import Lookup
from .machine import MachineWatch
from .maintenance import Maintenance
from .model import Plan, Server, Target
from .monitor import Monitor
from .network import Change, NetworkWatch
from .news import News, PolicyErrors
from .policy import Policy
from .probe import Probe
from .request import Requests
from .resolution import Resolution
from .retry import Decide
from .rulings import Rulings
from .shared import Shared
from .targets import Targets

if TYPE_CHECKING:
    from .shared.sharing import Sharing

log = logging.getLogger("pjfail")

T = TypeVar("T")

# After so many crashes of its loop, the worker gives up and pjfail detaches.
MAX_CRASHES = 3
# So long after a crash the worker starts anew, if it is not the last (seconds).
RESTART_PAUSE = 1.0
# A crash after the worker has run for so long counts as its first (seconds).
CRASHES_FORGOTTEN = 60.0


class Worker:
    """The thread, and the parts that run on it.

    ``resolution`` makes plans for questions, ``monitor`` makes health from outcomes, ``maintenance`` keeps accounts on
    their servers, ``requests`` are pjfail's own requests under way.

    *detached* is called on the worker when it ends by itself, because the endpoint is gone or the worker crashed too
    often. It returns False if another thread is detaching at that moment.
    """

    def __init__(
        self,
        lookup: Lookup,
        policy: Policy,
        probe: Probe,
        follow: Follow | None,
        listeners: Sequence[events.Listener],
        detached: Callable[[], bool],
        random: Random | None = None,
        decide: Decide | None = None,
        clusters: Collection[str] = (),
        shared: Shared | None = None,
    ) -> None:
        random = random or Random()
        self._beside: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._rulings = Rulings(decide)
        complain = PolicyErrors()
        self._detached = detached
        self._news = News(listeners)
        health = HealthTable()
        self._targets = Targets(policy, health, self._news.tell, self._server_gone, complain)
        self.requests = Requests()
        self.resolution = Resolution(lookup, self._targets, self._news)
        self.maintenance = Maintenance(probe, follow, health, self._targets, self.resolution, self._news, random)
        self.monitor = Monitor(
            policy,
            probe,
            health,
            self._targets,
            self.requests,
            self._news,
            complain,
            self.maintenance.on_health,
            self.maintenance.aor_for,
            random,
        )
        self._targets.on_plan = self.maintenance.maintain_soon
        follower = self.maintenance.follower
        self._network = NetworkWatch(
            follower.addresses, follower.other_addresses, self._network_stirred, self._network_changed
        )
        self._machine = MachineWatch(lookup, self._targets.outdate, self._network)
        self.monitor.excuses = self._network.excuses
        self.maintenance.follower.on_server = self._network.remember
        self._calls = Calls(
            lambda server: health.get(server, time.monotonic()),
            lambda server: any(target.host in clusters for target in self._targets.of(server)),
            self._news.tell,
            self._later,
        )
        self.maintenance.follower.on_registered = self._calls.on_registered
        self._news.add(self._calls.on_event)
        self.sharing: Sharing | None = None
        if shared is not None:
            from .shared.sharing import Sharing

            self.sharing = Sharing(shared, policy, health, self._targets, self.monitor, self._news, random)
            self.monitor.may_probe = self.sharing.may_probe
            self._news.add(self.sharing)
            self._beside.append(self.sharing.serve)
        self._attachment = 0
        self._stopping = False
        self._stopped = threading.Event()  # ends the pause before a restart
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pjfail", daemon=True)

    # --- any thread ---------------------------------------------------------------------------------------------------

    def run_beside(self, service: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Before :meth:`start`: has *service* run in the thread's loop until the end, when it is cancelled."""
        self._beside.append(service)

    def start(self, attachment: int) -> None:
        """Starts the thread, which serves only this attachment."""
        self._attachment = attachment
        self._thread.start()
        self._ready.wait()
        if self.sharing is not None:
            self.sharing.wait_for_first_read()

    def stop(self, timeout: float = 2.0) -> None:
        """Ends the thread. If a policy or listener blocks it for more than *timeout* seconds, the thread is left to end
        later.
        """
        self._stopping = True
        self._stopped.set()
        self._targets.end()
        loop, end = self._loop, self._end
        if loop is not None and end is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(end.set)
        self.requests.end()
        if not self.is_current():
            self._thread.join(timeout)

    def is_current(self) -> bool:
        """Returns whether the caller runs on the worker (a listener or policy), and so must not wait for it."""
        return threading.current_thread() is self._thread

    def resolve(self, target: Target, timeout: float) -> Plan:
        """Returns the plan of *target*; looks it up if there is none or it is too old. Raises LookupFailed."""
        if self.is_current():
            raise RuntimeError("resolve() waits for pjfail's worker; do not call it from a listener or policy")
        try:
            return self._wait_for(self.resolution.plan(target), timeout)
        except TimeoutError:
            raise LookupFailed(f"{target}: no answer within {timeout:g} s", temporary=True) from None

    def call(self, function: Callable[[], T], timeout: float = 5.0) -> T:
        """Runs *function* on the worker and returns its result. Raises NotAttached, WorkerBusy.

        The worker first takes what SIP threads have queued by then.
        """
        if self.is_current():
            return function()

        async def run() -> T:
            self._fetch()
            return function()

        try:
            return self._wait_for(run(), timeout)
        except TimeoutError:
            raise WorkerBusy(f"a listener, policy or lookup has held up pjfail's worker for {timeout:g} s") from None

    def _wait_for(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        loop, future = self._loop, None
        if loop is not None and not self._stopping:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        if loop is None or future is None:
            coroutine.close()
            raise self._does_not_run()
        try:
            return future.result(timeout)
        except CancelledError:
            raise self._does_not_run() from None
        finally:
            if not loop.is_closed():
                future.cancel()

    def _does_not_run(self) -> NotAttached:
        return NotAttached(
            DETACHED
            if self._stopping
            else "an error stopped pjfail's worker, which starts anew (see the log); retry in a second"
        )

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        crashes = 0
        while not self._stopping:
            began = time.monotonic()
            try:
                asyncio.run(self._main())
            except BaseException:
                self._loop = None
                crashes = 1 if time.monotonic() - began >= CRASHES_FORGOTTEN else crashes + 1
                log.exception("an error has stopped pjfail's worker (%d of %d times)", crashes, MAX_CRASHES)
                if crashes >= MAX_CRASHES:
                    log.critical("pjfail detaches, as errors keep stopping its worker; pjsip resolves by itself again")
                    self._give_up()
            finally:
                self._ready.set()
            if not self._stopping:
                self._stopped.wait(RESTART_PAUSE)
        self._loop = None

    def _give_up(self) -> bool:
        """Detaches. Returns False if another thread has done so."""
        self._stopping = True
        self._targets.end()
        return self._detached()

    async def _main(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        descriptor = os.dup(queue.event_fd())  # a copy stays valid until we close it, whoever detaches
        try:
            loop.add_reader(descriptor, self._fetch)
            self.resolution.begin()
            self._ready.set()
            self.monitor.begin(loop)
            self.maintenance.begin(loop, self.monitor)
            self._machine.begin(loop)
            self._fetch()
            beside = [loop.create_task(service()) for service in self._beside]
            if not self._stopping:
                await self._end.wait()
            for task in beside:
                task.cancel()
        finally:
            self._machine.end()
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def _fetch(self) -> None:
        """Takes what SIP threads have queued: outcomes before the questions whose plans they change.

        Takes nothing once stopped: a worker that was blocked for longer than a detach waits could take what belongs to
        the next one.
        """
        if self._stopping or core.attachment() != self._attachment:
            if not self._stopping and self._give_up():
                log.info("pjfail is detached: the endpoint has ended")
            if self._end is not None:
                self._end.set()
            return
        questions = list(queue.questions())
        for ruling in queue.rulings():  # responses are held for them
            self._rulings.rule(ruling)
        for dns_answer in queue.dns_answers():
            from .lookup.pjsip_dns import deliver  # it has asked, so that it is loaded

            deliver(dns_answer)
        outcomes = queue.outcomes()
        with contextlib.suppress(NotAttached):  # before the outcome of the same answer can move the account
            for registration in queue.registrations():
                self.maintenance.on_registration(registration)
            for result in queue.standbys():
                self.maintenance.on_standby(result)
            self.maintenance.on_found(queue.found_accounts())
        self.monitor.note_failovers(queue.failovers())
        self.monitor.judge(outcomes)
        self.maintenance.follower.tell_moved()
        for call in queue.calls():
            followed = self.maintenance.follower.get(call.account)
            if followed is not None:
                self._calls.on_call(call, followed)
        for answer in queue.answers():
            self.requests.deliver(answer)
        self.monitor.note_unwatched()
        for question in questions:
            self.resolution.answer(question)
        self._news.deliver()

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.call_later(seconds, function)

    def _network_stirred(self) -> None:
        log.info("the network has changed: every name is looked up again")
        self._targets.outdate()

    def _network_changed(self, change: Change, began: float) -> None:
        """Has pjsip use its new addresses, and accounts register; *began*: since when the network had failed."""
        log.info("the network has changed: %s; accounts register again", change.value)
        with contextlib.suppress(NotAttached):
            self.monitor.pardon(began)
            if change is Change.MOVED:
                accounts.change_network()
            self.maintenance.follower.network_changed(change, time.monotonic())

    def _server_gone(self, server: Server) -> None:
        self.monitor.forget(server)
