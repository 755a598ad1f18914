"""Finds the accounts that register, and has those followed that the application leaves to pjfail.

:func:`decide` is pure and says whether an account is followed; :class:`Finder` finds accounts. An account shows itself
by a REGISTER on the wire, which names its address of record. Which of pjsua's accounts that is, is read on pjsip's
polling thread, where pjsua's lock may be waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice

from ._values import dataclass
from .bridge import accounts
from .bridge.accounts import Account
from .bridge.pins import Registration
from .follow_settings import Follow
from .following import CHALLENGES, FollowedAccount, Follower

# Seconds from a REGISTER of an unknown account to the search, so that many accounts are searched for at once.
SEARCH_PAUSE = 0.02
# So many accounts are read at once: each takes pjsip's polling thread some 20 microseconds.
MAX_READS = 64
# The addresses of record whose REGISTERs are remembered until it is known whose they are, and the calls of each.
MAX_SEEN = 20_000
MAX_CALLS = 8


def decide(
    account: Account | None, before: FollowedAccount | None, settings: Follow, *, hands_off: bool
) -> FollowedAccount | None:
    """How *account* is followed from now on, as it was just read (None: it is gone); None: not at all. Pure.

    *before*: how the account with its id is followed so far. *hands_off*: the application has pinned, routed or
    unfollowed it. What the application has said by ``follow()`` holds until the account is gone.
    """
    if account is None or account.next_hop is None or not account.registers:
        return None
    if before is not None and before.aor != account.aor:
        before = None  # the id was another account's
    automatic = before is None or before.automatic
    if automatic and (hands_off or account.affinity):
        return None
    if before is not None and before.next_hop == account.next_hop:
        return before
    chosen = settings if before is None else before.settings
    return FollowedAccount(account.id, account.aor, account.next_hop, chosen, automatic=automatic)


@dataclass(frozen=True, slots=True)
class FinderContext:
    """What the finder asks others for: whether an account is pinned or routed, and to call a function at a time."""

    hands_off: Callable[[Account], bool]
    at: Callable[[float, Callable[[], None]], object]


class Finder:
    """Worker only. Without *settings* it does nothing: no account is followed by itself."""

    def __init__(self, settings: Follow | None, follower: Follower, context: FinderContext) -> None:
        self._settings = settings
        self._follower = follower
        self._context = context
        self._aors: dict[int, str] = {}  # of the accounts that were read
        self._left: dict[int, str] = {}  # those that the application has unfollowed
        self._held: set[int] = set()  # those that it is about to pin or route
        self._wanted: set[str] = set()
        self._missing: set[str] = set()
        self._thorough = False
        self._searches = False
        self._to_read: dict[int, None] = {}
        self._under_way: set[int] = set()
        self._seen: dict[str, dict[int, Registration]] = {}

    def begin(self) -> None:
        """Reads all accounts that there are; what an earlier loop has begun is gone."""
        self._under_way.clear()
        self._searches = False
        self._aors.clear()
        self._search_soon()

    # --- what the application says ------------------------------------------------------------------------------------

    def take_over(self, account: Account) -> None:
        """Leaves *account* alone until :meth:`consider`: the application is about to pin or route it."""
        self._held.add(account.id)
        followed = self._follower.get(account.id)
        if followed is not None and followed.automatic:
            self._follower.unfollow(account.id)

    def consider(self, number: int) -> None:
        """Has account *number* followed, unless the application keeps it otherwise."""
        self._held.discard(number)
        if self._settings is not None:
            self._read([number])

    def leave(self, account: Account) -> None:
        """Has *account* not followed any more by itself, for as long as it lives."""
        self._left[account.id] = account.aor

    def on_follow(self, followed: FollowedAccount) -> None:
        """The application follows the account by itself."""
        self._left.pop(followed.account, None)

    def __bool__(self) -> bool:
        """Whether :meth:`review` has anything to do."""
        return bool(self._left or self._held)

    # --- finding ------------------------------------------------------------------------------------------------------

    def on_registration(self, registration: Registration, now: float) -> None:
        """Takes the REGISTER, or its response, of an account that was not followed when it was sent."""
        aor, call = registration.aor, registration.call
        calls = self._seen.get(aor, {})
        sent = registration.next_hop is not None
        if not sent and call in calls:
            registration = replace(registration, next_hop=calls[call].next_hop)
        found = self._follower.find(aor, registration.next_hop)
        if found is None:
            self._wanted.add(aor)
            self._search_soon()
        else:
            self._follower.on_registration(replace(registration, account=found), now)
        if found is None or sent or registration.code in CHALLENGES:
            self._remember(registration)
        else:
            self._forget(aor, call)

    def on_found(self, number: int, account: Account | None, now: float) -> None:
        """Takes an account that was read; None: there is none with this number."""
        self._under_way.discard(number)
        if account is None:
            self._aors.pop(number, None)
        else:
            self._aors[number] = account.aor
            self._missing.discard(account.aor)
        if self._settings is not None:
            self._decide(number, account, self._settings, now)
        self._read_on()

    def review(self) -> None:
        """Forgets what was said about accounts that are gone; call it in every round."""
        for number in [number for number in (*self._left, *self._held) if not accounts.account_exists(number)]:
            self._left.pop(number, None)
            self._held.discard(number)

    def _decide(self, number: int, account: Account | None, settings: Follow, now: float) -> None:
        before = self._follower.get(number)
        hands_off = account is not None and (
            number in self._held or self._left.get(number) == account.aor or self._context.hands_off(account)
        )
        followed = decide(account, before, settings, hands_off=hands_off)
        if followed == before:
            return
        if before is not None:
            self._follower.unfollow(number)
        if followed is not None:
            self._follower.add(followed)
            for registration in list(self._seen.get(followed.aor, {}).values()):
                if registration.next_hop == followed.next_hop:
                    self._follower.on_registration(replace(registration, account=number), now)
                    if registration.code >= 200 and registration.code not in CHALLENGES:
                        self._forget(registration.aor, registration.call)

    def _search_soon(self) -> None:
        if self._settings is not None and not self._searches:
            self._searches = True
            self._context.at(time.monotonic() + SEARCH_PAUSE, self._search)

    def _search(self) -> None:
        """Reads the accounts that may have sent the REGISTERs since the last search: new ones, and of their AORs."""
        self._searches = False
        ids = accounts.account_ids()
        for gone in self._aors.keys() - set(ids):
            del self._aors[gone]
        known = {number: aor for number, aor in self._aors.items() if aor in self._wanted}
        self._missing |= self._wanted - set(known.values())
        self._wanted.clear()
        self._thorough = False
        self._read([*known, *(number for number in ids if number not in self._aors)])

    def _read(self, numbers: Iterable[int]) -> None:
        self._to_read |= dict.fromkeys(numbers)
        self._read_on()

    def _read_on(self) -> None:
        """Reads what is to be read, and last all accounts where an id may have become that of another AOR."""
        if self._missing and not (self._to_read or self._under_way):
            if self._thorough:
                self._missing.clear()  # they are not pjsua's
            else:
                self._thorough = True
                self._to_read = dict.fromkeys(self._aors)
        for number in list(islice(self._to_read, MAX_READS - len(self._under_way))):
            del self._to_read[number]
            self._under_way.add(number)
            accounts.read_soon(number)

    def _remember(self, registration: Registration) -> None:
        calls = self._seen.pop(registration.aor, {})
        calls.pop(registration.call, None)
        self._seen[registration.aor] = calls
        calls[registration.call] = registration
        if len(calls) > MAX_CALLS:
            del calls[next(iter(calls))]
        if len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]

    def _forget(self, aor: str, call: int) -> None:
        calls = self._seen.get(aor, {})
        calls.pop(call, None)
        if not calls:
            self._seen.pop(aor, None)
