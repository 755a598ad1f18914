"""Which server a dialog belongs to: for as long as it lives, whatever else is sent and received meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from rig.core import library

MAX_DIALOGS, MAX_BINDINGS = 32768, 16384
OTHERS = ("SUBSCRIBE", "REFER", "UPDATE", "MESSAGE")
METHODS = {"INVITE": 0, "CANCEL": 1, "ACK": 2, "BYE": 3, "REGISTER": 4, "OPTIONS": 5}  # pjsip_method_e; 6: other
DECLARATIONS = """
    typedef struct { char *ptr; long slen; } pj_str_t;
    typedef struct { int id; pj_str_t name; } pjsip_method;
    struct request_info { pf_address server; int in_dialog, bound, may_move, follows, sends, free_to_race; };
    void dialogs_update(const pj_str_t *call_id, const pj_str_t *remote_tag, const pjsip_method *method,
                               int code, int expires, const pf_address *server, double now);
    void dialogs_update_called(const pj_str_t *call_id, const pj_str_t *remote_tag, const pjsip_method *method,
                               int code, int expires, const pf_address *server);
    void dialogs_end(const pj_str_t *call_id, const pj_str_t *remote_tag);
    void dialogs_find(const pj_str_t *call_id, const pj_str_t *remote_tag, struct request_info *asker);
    void dialogs_count(pf_counters *counters);
    void dialogs_clear(void);
"""


class Dialogs:
    """Servers are numbers from 1 on."""

    def __init__(self, ffi: Any, lib: Any) -> None:
        self.ffi, self.lib = ffi, lib
        self.methods = {name: self.method(name) for name in (*METHODS, *OTHERS)}

    def text(self, text: str) -> Any:
        octets = self.ffi.new("char[]", text.encode())
        return self.ffi.new("pj_str_t *", (octets, len(text))), octets

    def method(self, name: str) -> Any:
        text, octets = self.text(name)
        return self.ffi.new("pjsip_method *", (METHODS.get(name, 6), text[0])), octets

    def note(self, method: str, code: int, call_id: str, tag: str = "t", server: int = 1, expires: int = -1) -> None:
        address = self.ffi.new("pf_address *", {"family": 4, "transport": 1, "port": server})
        whose, remote = self.text(call_id), self.text(tag)
        self.lib.dialogs_update(whose[0], remote[0], self.methods[method][0], code, expires, address, time.monotonic())

    def called(self, method: str, code: int, call_id: str, tag: str = "t", server: int = 1, expires: int = -1) -> None:
        """A request of the other side came from *server*, and we answered it."""
        address = self.ffi.new("pf_address *", {"family": 4, "transport": 1, "port": server})
        whose, remote = self.text(call_id), self.text(tag)
        self.lib.dialogs_update_called(whose[0], remote[0], self.methods[method][0], code, expires, address)

    def bye(self, call_id: str, tag: str = "t") -> None:
        whose, remote = self.text(call_id), self.text(tag)
        self.lib.dialogs_end(whose[0], remote[0])

    def find(self, call_id: str, tag: str = "") -> tuple[int, bool]:
        """Which server it prefers (0: none), and whether it must go there."""
        asker = self.ffi.new("struct request_info *")
        whose, remote = self.text(call_id), self.text(tag)
        self.lib.dialogs_find(whose[0], remote[0] if tag else self.ffi.NULL, asker)
        return asker.server.port, bool(asker.bound)

    @property
    def counts(self) -> tuple[int, int]:
        """How many live, and how many had to go."""
        counters = self.ffi.new("pf_counters *")
        self.lib.dialogs_count(counters)
        return counters.dialogs, counters.forgotten


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    path = tmp_path_factory.mktemp("dialogs") / "dialogs.so"
    return library(path, "dialogs.c hash_table.c host.c layout.c", DECLARATIONS)


@pytest.fixture
def dialogs(built: tuple[Any, Any]) -> Iterator[Dialogs]:
    yield Dialogs(*built)
    built[1].dialogs_clear()


def test_a_quiet_call_outlives_whatever_is_no_dialog(dialogs: Dialogs) -> None:
    dialogs.note("INVITE", 200, "quiet", server=2)
    for number in range(MAX_DIALOGS + MAX_BINDINGS):
        dialogs.note("MESSAGE", 202, f"m{number}")
        dialogs.note("MESSAGE", 401, f"c{number}")
        dialogs.note("REGISTER", 200, f"r{number}")
    assert dialogs.find("quiet", "t") == (2, True)
    assert dialogs.counts == (1, 0)
    assert dialogs.find("m0") == (0, False)
    assert dialogs.find("r0") == (0, False)
    assert dialogs.find(f"r{MAX_DIALOGS + MAX_BINDINGS - 1}") == (1, False)


def test_at_the_bound_what_ended_goes_then_subscriptions_then_the_call_that_was_idle_longest(dialogs: Dialogs) -> None:
    dialogs.note("INVITE", 200, "quiet", server=2)
    dialogs.note("INVITE", 200, "used")
    dialogs.note("INVITE", 200, "over")
    dialogs.bye("over")
    dialogs.note("SUBSCRIBE", 200, "watched", expires=3600)
    for number in range(MAX_DIALOGS - 4):
        dialogs.note("INVITE", 200, f"i{number}")
    assert dialogs.find("used", "t") == (1, True)
    assert dialogs.counts == (MAX_DIALOGS - 1, 0)
    for number, gone in enumerate(["over", "watched", "quiet"]):
        dialogs.note("INVITE", 200, f"n{number}")
        assert dialogs.find(gone, "t") == (0, False)
        assert dialogs.counts == (MAX_DIALOGS, number + 1)
    assert dialogs.find("used", "t") == (1, True)


def test_a_server_that_answers_with_early_dialogs_without_end_drops_none_but_those(dialogs: Dialogs) -> None:
    dialogs.note("INVITE", 200, "quiet", server=2)
    dialogs.note("SUBSCRIBE", 200, "watched", server=3, expires=3600)
    for number in range(2 * MAX_DIALOGS):
        dialogs.note("INVITE", 183, "flood", tag=f"t{number}")
    assert dialogs.find("quiet", "t") == (2, True)
    assert dialogs.find("watched", "t") == (3, True)
    assert dialogs.find("flood", "t0") == (0, False)
    assert dialogs.find("flood", f"t{2 * MAX_DIALOGS - 1}") == (1, True)
    assert dialogs.counts == (MAX_DIALOGS, MAX_DIALOGS + 2)


@pytest.mark.parametrize("code", [200, 404, 408, 481])
def test_a_call_ends_with_its_bye(dialogs: Dialogs, code: int) -> None:
    dialogs.note("INVITE", 200, "call")
    dialogs.note("BYE", 407, "call")
    assert dialogs.counts == (1, 0)
    dialogs.note("BYE", code, "call")
    assert dialogs.counts == (0, 0)
    assert dialogs.find("call", "t") == (1, True), "what is under way is bound still"


def test_a_bye_ends_its_own_dialog_of_a_forked_call(dialogs: Dialogs) -> None:
    dialogs.note("INVITE", 200, "call", tag="one", server=1)
    dialogs.note("INVITE", 200, "call", tag="other", server=2)
    dialogs.bye("call", "other")
    assert dialogs.counts == (1, 0)
    assert dialogs.find("call", "one") == (1, True)
    assert dialogs.find("call", "other") == (2, True)
    assert dialogs.find("call", "another") == (0, False)


@pytest.mark.parametrize(
    ("responses", "lives"),
    [
        ([("INVITE", 100)], False),
        ([("INVITE", 180)], True),
        ([("INVITE", 180), ("INVITE", 486)], False),
        ([("INVITE", 180), ("INVITE", 200), ("INVITE", 488)], True),
        ([("INVITE", 200), ("INVITE", 183), ("INVITE", 401)], True),
        ([("INVITE", 200), ("INVITE", 481)], False),
        ([("INVITE", 200), ("UPDATE", 408)], False),
        ([("INVITE", 486)], False),
        ([("UPDATE", 200)], True),  # of a call that came in
        ([("BYE", 200)], False),
        ([("MESSAGE", 200)], False),
        ([("OPTIONS", 200)], False),
        ([("REFER", 202)], True),
        ([("SUBSCRIBE", 489)], False),
        ([("INVITE", 200), ("REFER", 202), ("SUBSCRIBE", 481)], True),
    ],
)
def test_what_makes_and_ends_a_dialog(dialogs: Dialogs, responses: list[tuple[str, int]], lives: bool) -> None:
    for method, code in responses:
        dialogs.note(method, code, "call")
    assert dialogs.counts == (int(lives), 0)


@pytest.mark.parametrize(
    ("answers", "lives"),
    [
        ([("INVITE", 180)], True),
        ([("INVITE", 180), ("INVITE", 486)], False),
        ([("INVITE", 180), ("INVITE", 200), ("BYE", 200)], False),
        ([("SUBSCRIBE", 200)], True),
        ([("MESSAGE", 200)], False),
        ([("INVITE", 404)], False),
    ],
)
def test_what_we_answer_makes_and_ends_a_dialog(dialogs: Dialogs, answers: list[tuple[str, int]], lives: bool) -> None:
    for method, code in answers:
        dialogs.called(method, code, "came in", server=2)
    assert dialogs.counts == (int(lives), 0)
    assert not lives or dialogs.find("came in", "t") == (2, True)


def test_a_request_of_the_other_side_moves_no_dialog(dialogs: Dialogs) -> None:
    dialogs.note("INVITE", 200, "ours", server=1)
    dialogs.called("INVITE", 200, "theirs", server=1)
    for call in ("ours", "theirs"):
        dialogs.called("INVITE", 200, call, server=2)
        assert dialogs.find(call, "t") == (1, True)


def test_what_we_answer_leaves_a_challenge_bound(dialogs: Dialogs) -> None:
    dialogs.note("BYE", 407, "call", server=3)
    dialogs.called("UPDATE", 200, "call", tag="other", server=2)
    assert dialogs.find("call") == (3, True)


def test_a_subscription_ends_when_it_is_given_up(dialogs: Dialogs) -> None:
    dialogs.note("SUBSCRIBE", 200, "presence", expires=600)
    dialogs.note("SUBSCRIBE", 200, "presence", expires=600, server=2)
    assert dialogs.find("presence", "t") == (2, True)
    assert dialogs.counts == (1, 0)
    dialogs.note("SUBSCRIBE", 200, "presence", expires=0)
    assert dialogs.counts == (0, 0)


def test_a_challenge_binds_until_it_is_answered_and_a_registration_prefers(dialogs: Dialogs) -> None:
    dialogs.note("MESSAGE", 407, "message", server=3)
    assert dialogs.find("message") == (3, True)
    dialogs.note("MESSAGE", 202, "message", server=3)
    assert dialogs.find("message") == (0, False)
    dialogs.note("REGISTER", 401, "register", server=3)
    assert dialogs.find("register") == (3, True)
    dialogs.note("REGISTER", 200, "register", server=3)
    assert dialogs.find("register") == (3, False)
    dialogs.note("BYE", 407, "came in", server=3)
    assert dialogs.find("came in", "t") == (3, True)
