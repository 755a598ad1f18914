"""What becomes of a request under way: the C core's pure decision, from tables and against laws, without a pjsip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig.decision import Decider, bits, members
from rig.simulation import RETRIABLE, Response, Scenario, Server, Simulation

Fields = dict[str, Any]


@pytest.fixture(scope="session")
def decider(tmp_path_factory: pytest.TempPathFactory) -> Decider:
    return Decider(tmp_path_factory.mktemp("decide") / "failover_decide.so")


@dataclass(frozen=True)
class Row:
    """A request as *given* and an *event* at *now*: what is to be done, and all that changes."""

    behaviour: str
    given: Fields
    event: tuple[str, Fields]
    now: float
    does: Fields
    becomes: Fields


Table = pytest.mark.parametrize


def sent(at: float = 0.0, **fields: Any) -> Fields:
    """An attempt that was sent then, and is unanswered."""
    return {"first_sent": at, "last_sent": at, **fields}


def works(at: float = 0.0, **fields: Any) -> Fields:
    """Its server has sent a 100."""
    return sent(at, provisional=1, **fields)


def rings(at: float = 0.0, **fields: Any) -> Fields:
    return works(at, bound=1, **fields)


def ended(at: float = 0.0, **fields: Any) -> Fields:
    return sent(at, ended=1, **fields)


def udp(*attempts: Fields, candidates: int = 2, **fields: Any) -> Fields:
    return {"attempts": attempts, "candidate_count": candidates, "timeout": 0.5, **fields}


def tcp(*attempts: Fields, **fields: Any) -> Fields:
    return udp(*attempts, reliable=1, **fields)


def invite(*attempts: Fields, **fields: Any) -> Fields:
    return udp(*attempts, invite=1, **fields)


def watched(*attempts: Fields, **fields: Any) -> Fields:
    """A request that goes to no other server."""
    return udp(*attempts, candidates=0, **{"timeout": math.inf, **fields})


def asked(at: float = 0.0, **fields: Any) -> Fields:
    """What a request becomes whose response the application decides about since then."""
    return {"ruling": "RULING_AWAITED", "ruling_until": at + 0.5, "asked_code": 404, "holds": 1, **fields}


def response(code: int, attempt: int, **fields: Any) -> tuple[str, Fields]:
    return "RESPONSE", {"code": code, "attempt": attempt, "heard": 1, "retriable": code in RETRIABLE, **fields}


def guessed(code: int, attempt: int) -> tuple[str, Fields]:
    """A response of which nobody knows whose it is."""
    return response(code, attempt, heard=0)


def timer(**fields: Any) -> tuple[str, Fields]:
    return "TIMER", fields


ANSWERED: Fields = {"answered": 1}
PROCEEDING: Fields = {"state": "REQUEST_PROCEEDING", **ANSWERED}
COMPLETED: Fields = {"state": "REQUEST_COMPLETED"}


def completed(now: float, winner: int = -1) -> Fields:
    """What a request becomes that is completed then."""
    return {**COMPLETED, "expires_at": now + 33, **({"winner": winner} if winner >= 0 else {})}


RESPONSES = [
    Row(
        "a 200 is passed, and ends all",
        udp(sent()),
        response(200, 0),
        0.1,
        {"pass": 1, "forget": 1},
        {**completed(0.1, 0), "0.ended": 1},
    ),
    Row(
        "a 200 to an INVITE that only one server has is pjsip's alone",
        invite(rings(), **PROCEEDING),
        response(200, 0),
        9.0,
        {"pass": 1, "forget": 1},
        {**completed(9.0, 0), "0.ended": 1},
    ),
    Row(
        "a 200 moves the transaction to its server, the overtaken one is suspect and watched still",
        udp(sent(), sent(0.3)),
        response(200, 1),
        0.4,
        {"pass": 1, "move_to": 1, "suspect": {0}},
        {**completed(0.4, 1), "1.ended": 1, "0.overtaken": 1, "0.suspected": 1},
    ),
    Row(
        "a 200 of the older attempt makes nobody suspect",
        udp(sent(), sent(0.3)),
        response(200, 0),
        0.4,
        {"pass": 1, "move_to": 0},
        {**completed(0.4, 0), "0.ended": 1, "1.overtaken": 1},
    ),
    Row(
        "a 200 to an INVITE cancels all others that ring",
        invite(rings(), sent(2.0), **PROCEEDING),
        response(200, 1),
        3.0,
        {"pass": 1, "move_to": 1, "cancel": {0}},
        {**completed(3.0, 1), "1.ended": 1, "0.overtaken": 1},
    ),
    Row(
        "a 401 moves the transaction even with one attempt: its answer goes to the challenger",
        udp(sent()),
        response(401, 0),
        0.1,
        {"pass": 1, "move_to": 0, "forget": 1},
        {**completed(0.1, 0), "0.ended": 1},
    ),
    Row(
        "so does a 407",
        udp(sent()),
        response(407, 0),
        0.1,
        {"pass": 1, "move_to": 0, "forget": 1},
        {**completed(0.1, 0), "0.ended": 1},
    ),
    Row(
        "a 180 is passed, and the INVITE stays where it is",
        invite(sent()),
        response(180, 0),
        0.1,
        {"pass": 1},
        {**PROCEEDING, "expires_at": 0.1 + 300, "0.provisional": 1, "0.bound": 1},
    ),
    Row(
        "a 100 is passed, and binds nobody",
        invite(sent()),
        response(100, 0),
        0.1,
        {"pass": 1},
        {**ANSWERED, "expires_at": 0.1 + 300, "0.provisional": 1},
    ),
    Row(
        "a 503 after a 100 is retried",
        invite(works(), **ANSWERED),
        response(503, 0),
        0.2,
        {"retry": "RETRY_CODE", "left": 0, "code": 503, "move_along": 1, "hold": 1, "acknowledge": 1},
        {"0.ended": 1, "holds": 1},
    ),
    Row(
        "not once the application has hung up",
        invite(works(), **ANSWERED, cancelled=1),
        response(503, 0),
        0.2,
        {"pass": 1, "forget": 1},
        {**completed(0.2, 0), "0.ended": 1},
    ),
    Row(
        "a 180 after the 100 binds",
        invite(works(), **ANSWERED, expires_at=300.1),
        response(180, 0),
        0.2,
        {"pass": 1},
        {"state": "REQUEST_PROCEEDING", "0.bound": 1},
    ),
    Row(
        "a 100 to a REGISTER leaves its time as it is",
        udp(sent()),
        response(100, 0),
        0.1,
        {"pass": 1},
        {**ANSWERED, "0.provisional": 1},
    ),
    Row(
        "the second server rings: the transaction moves, the silent first one is suspect",
        invite(sent(), sent(0.5)),
        response(180, 1),
        0.6,
        {"pass": 1, "move_to": 1, "suspect": {0}},
        {**PROCEEDING, "expires_at": 0.6 + 300, "1.provisional": 1, "1.bound": 1, "0.suspected": 1},
    ),
    Row(
        "further provisional responses do not prolong an INVITE's time",
        invite(rings(), **PROCEEDING, expires_at=300.0),
        response(183, 0),
        60.0,
        {"pass": 1},
        {},
    ),
    Row(
        "a provisional response of unknown origin is passed, and keeps the request where it is",
        udp(ended(), ended(0.5)),
        guessed(183, -1),
        0.6,
        {"pass": 1},
        PROCEEDING,
    ),
    Row(
        "a 503 with nobody left to be tried is passed",
        udp(ended(), sent(0.5)),
        response(503, 1),
        0.6,
        {"pass": 1, "move_to": 1, "forget": 1},
        {**completed(0.6, 1), "1.ended": 1, "0.overtaken": 1},
    ),
    Row(
        "a 503 that the application shall see is passed",
        udp(sent()),
        response(503, 0, retriable=0),
        0.1,
        {"pass": 1, "forget": 1},
        {**completed(0.1, 0), "0.ended": 1},
    ),
    Row(
        "a 503 after a provisional response comes from further downstream, and is passed",
        invite(rings(), **PROCEEDING),
        response(503, 0),
        5.0,
        {"pass": 1, "forget": 1},
        {**completed(5.0, 0), "0.ended": 1},
    ),
    Row(
        "a 503 to a request that stays is passed, whoever is left",
        udp(sent(), **PROCEEDING),
        response(503, 0),
        0.1,
        {"pass": 1, "forget": 1},
        {**completed(0.1, 0), "0.ended": 1},
    ),
    Row(
        "486 while another is silent is passed; where the transaction cannot move, we acknowledge",
        invite(sent(), sent(2.0)),
        response(486, 1),
        3.0,
        {"pass": 1, "move_to": 1, "acknowledge_unmoved": 1, "suspect": {0}},
        {**completed(3.0, 1), "1.ended": 1, "0.overtaken": 1, "0.suspected": 1},
    ),
    Row(
        "a provisional response after its connection's end tells nobody anything",
        tcp(ended(), sent(0.1), stranded=1),
        response(100, 0),
        0.2,
        {},
        {},
    ),
    Row(
        "for its own response is heard as if there had been none before",
        udp(sent(), ended(0.5, guessed=1), candidates=3, holds=1),
        response(200, 1),
        0.7,
        {"pass": 1, "move_to": 1, "suspect": {0}},
        {**completed(0.7, 1), "1.guessed": 0, "0.overtaken": 1, "0.suspected": 1},
    ),
    Row(
        "a 503 of unknown origin when all have ended is retried",
        invite(ended(), ended(0.5), candidates=3),
        guessed(503, -1),
        0.7,
        {"retry": "RETRY_CODE", "code": 503, "move_along": 1, "hold": 1, "acknowledge": 1},
        {"holds": 1, "0.overtaken": 1, "1.overtaken": 1},
    ),
    Row(
        "late 2xx is hung up",
        invite(ended(), sent(2.0), **COMPLETED, winner=0),
        response(200, 1),
        3.0,
        {"hang_up": 1},
        {"1.ended": 1, "0.overtaken": 1},
    ),
    Row(
        "late 2xx to a REGISTER is no more than heard, and the last",
        udp(sent(), ended(0.5), **COMPLETED, winner=1),
        response(200, 0),
        3.0,
        {"forget": 1},
        {"0.ended": 1, "1.overtaken": 1},
    ),
    Row(
        "late 486 is acknowledged",
        invite(ended(), sent(2.0), **COMPLETED, winner=0),
        response(486, 1),
        3.0,
        {"acknowledge": 1},
        {"1.ended": 1, "0.overtaken": 1},
    ),
    Row(
        "who rings late is cancelled",
        invite(ended(), sent(2.0), **COMPLETED, winner=0),
        response(180, 1),
        3.0,
        {"cancel": {1}},
        {"1.provisional": 1},
    ),
    Row(
        "and nobody else with it: a server that rings again and again has no others flooded",
        invite(ended(), rings(1.0), rings(2.0), **COMPLETED, winner=0),
        response(180, 1),
        3.0,
        {"cancel": {1}},
        {},
    ),
    Row(
        "nor is who has ended",
        invite(ended(), rings(1.0, ended=1), **COMPLETED, winner=0),
        response(180, 1),
        3.0,
        {},
        {},
    ),
    Row(
        "a late 100 is nothing to cancel yet",
        invite(ended(), sent(2.0), **COMPLETED, winner=0),
        response(100, 1),
        3.0,
        {},
        {"1.provisional": 1},
    ),
    Row(
        "a late provisional response to a REGISTER is only heard",
        udp(ended(), sent(0.5), **COMPLETED, winner=0),
        response(180, 1),
        0.6,
        {},
        {"1.provisional": 1},
    ),
    Row(
        "the winner's repetitions are passed: pjsip acknowledges them",
        invite(ended(), sent(2.0), **COMPLETED, winner=0),
        response(200, 0),
        3.0,
        {"pass": 1},
        {"1.overtaken": 1},
    ),
    Row(
        "but not of a failure over UDP to what was a transaction over TCP: pjsip's is over",
        invite(ended(), ended(2.0, reliable=0), **COMPLETED, winner=1, reliable=1),
        response(486, 1),
        3.0,
        {"acknowledge": 1},
        {"0.overtaken": 1},
    ),
    Row(
        "so are those of the same dialog by another server",
        invite(ended(), sent(2.0), **COMPLETED, winner=0),
        response(200, 1, same_dialog=1),
        3.0,
        {"pass": 1},
        {"1.ended": 1, "0.overtaken": 1},
    ),
    Row(
        "late 2xx of unknown origin is hung up, when nobody knows whose the first one was either",
        invite(ended(), ended(2.0), **COMPLETED),
        guessed(200, -1),
        3.0,
        {"hang_up": 1},
        {"0.overtaken": 1, "1.overtaken": 1},
    ),
    Row(
        "a 503 of the only open attempt is retried, and held",
        udp(sent()),
        response(503, 0),
        0.1,
        {"retry": "RETRY_CODE", "left": 0, "code": 503, "move_along": 1, "hold": 1},
        {"0.ended": 1, "holds": 1},
    ),
    Row(
        "and acknowledged, to an INVITE",
        invite(sent()),
        response(503, 0),
        0.1,
        {"retry": "RETRY_CODE", "left": 0, "code": 503, "move_along": 1, "hold": 1, "acknowledge": 1},
        {"0.ended": 1, "holds": 1},
    ),
    Row(
        "a 503 while another attempt is open is held; it is not the time for the next server",
        udp(sent(), sent(0.5), candidates=3),
        response(503, 1),
        0.6,
        {"hold": 1, "suspect": {0}},
        {"1.ended": 1, "holds": 1, "0.overtaken": 1, "0.suspected": 1},
    ),
    Row(
        "486 while another rings is held",
        invite(rings(), sent(2.0), **PROCEEDING),
        response(486, 1),
        3.0,
        {"hold": 1, "acknowledge": 1},
        {"1.ended": 1, "holds": 1, "0.overtaken": 1},
    ),
    Row(
        "a held 503 that is repeated is acknowledged again, and ends nobody else",
        invite(ended(), sent(0.1), holds=1),
        response(503, 0),
        0.6,
        {"hold": 1, "acknowledge": 1},
        {"1.overtaken": 1},
    ),
    Row(
        "a 404 that comes after its connection's end is held",
        tcp(ended(), sent(0.1), stranded=1),
        response(404, 0),
        0.2,
        {"hold": 1},
        {"holds": 1, "1.overtaken": 1},
    ),
    Row(
        "an unknown source ends nobody for good",
        udp(sent(), sent(0.5), candidates=3),
        guessed(503, 1),
        0.6,
        {"hold": 1, "suspect": {0}},
        {"1.ended": 1, "1.guessed": 1, "holds": 1, "0.overtaken": 1, "0.suspected": 1},
    ),
    Row(
        "an INVITE that rang is kept for repeated responses, and no longer",
        invite(rings(), sent(2.0), **PROCEEDING, expires_at=300.0),
        response(200, 0),
        9.0,
        {"pass": 1, "move_to": 0},
        {**completed(9.0, 0), "0.ended": 1, "1.overtaken": 1},
    ),
    Row(
        "a final response that was guessed to be this server's is not, once it sends its own",
        invite(sent(), ended(2.0, guessed=1), **COMPLETED, winner=1),
        response(200, 1),
        3.0,
        {"hang_up": 1, "suspect": {0}},
        {"1.guessed": 0, "winner": -1, "0.overtaken": 1, "0.suspected": 1},
    ),
    Row(
        "a 2xx that comes after its connection's end is passed at once",
        tcp(ended(), sent(0.1), stranded=1, invite=1),
        response(200, 0),
        0.2,
        {"pass": 1, "move_to": 0},
        {**completed(0.2, 0), "1.overtaken": 1},
    ),
    Row(
        "late, too, an unknown source ends nobody for good",
        invite(ended(), rings(2.0), **COMPLETED, winner=0),
        guessed(486, 1),
        3.0,
        {"acknowledge": 1},
        {"1.ended": 1, "1.guessed": 1, "0.overtaken": 1},
    ),
    Row(
        "a 486 that nobody is known to have sent is acknowledged by us: pjsip's ACK goes to another",
        invite(ended(), ended(0.5), candidates=3, **PROCEEDING),
        guessed(486, -1),
        0.7,
        {"pass": 1, "acknowledge_unmoved": 1},
        {**completed(0.7), "0.overtaken": 1, "1.overtaken": 1},
    ),
    Row(
        "a 2xx of unknown origin ends the ringing of the one that it is taken for",
        invite(sent(), rings(2.0), **PROCEEDING),
        guessed(200, 1),
        3.0,
        {"pass": 1, "move_to": 1, "cancel": {1}, "suspect": {0}},
        {**completed(3.0, 1), "1.ended": 1, "1.guessed": 1, "0.overtaken": 1, "0.suspected": 1},
    ),
    Row(
        "who begins to ring after the application has cancelled is cancelled too",
        invite(sent(), rings(2.0), **PROCEEDING, cancelled=1),
        response(180, 0),
        9.0,
        {"pass": 1, "move_to": 0, "cancel": {0}},
        {"0.provisional": 1, "0.bound": 1},
    ),
    Row(
        "an overtaken server that is suspect already is not told of again",
        udp(sent(suspected=1), sent(0.5)),
        response(200, 1),
        0.6,
        {"pass": 1, "move_to": 1},
        {**completed(0.6, 1), "1.ended": 1, "0.overtaken": 1},
    ),
    Row(
        "with one server, pjsip's own CANCEL is enough",
        invite(rings(), **PROCEEDING, cancelled=1),
        response(180, 0),
        9.0,
        {"pass": 1},
        {},
    ),
]

TIMES_OUT = [
    Row("nothing is due", udp(sent()), timer(), 0.4, {}, {}),
    Row(
        "a silent server is suspect, and the next one is tried",
        udp(sent()),
        timer(),
        0.5,
        {"retry": "RETRY_SILENT", "left": 0, "suspect": {0}},
        {"0.suspected": 1},
    ),
    Row(
        "with nobody left, it is only suspect",
        udp(sent(), candidates=1),
        timer(),
        0.5,
        {"suspect": {0}},
        {"0.suspected": 1},
    ),
    Row(
        "with all attempts made, too",
        udp(sent(), max_attempts=1),
        timer(),
        0.5,
        {"suspect": {0}},
        {"0.suspected": 1},
    ),
    Row("a request that is answered provisionally stays", udp(rings(), **PROCEEDING), timer(), 0.5, {}, {}),
    Row(
        "the next one is tried when the newest has ended in vain and its time is up",
        udp(sent(suspected=1, sends=2), ended(0.5), candidates=3),
        timer(),
        1.0,
        {"retry": "RETRY_SILENT", "left": 1},
        {},
    ),
    Row(
        "a server that is late by its own measure is hedged",
        udp(sent(), hedge_at=0.2),
        timer(may_hedge=1),
        0.2,
        {"retry": "RETRY_SLOW", "left": 0},
        {"hedge_at": math.inf, "hedge_of": 1},
    ),
    Row(
        "not at a server of last resort",
        udp(sent(), hedge_at=0.2, last_resorts=0b10),
        timer(may_hedge=1),
        0.2,
        {},
        {"hedge_at": math.inf},
    ),
    Row(
        "nor once its server works on it",
        udp(works(), **ANSWERED, hedge_at=0.2),
        timer(may_hedge=1),
        0.2,
        {},
        {"hedge_at": math.inf},
    ),
    Row(
        "what follows a hedge is none",
        udp(sent(suspected=1, sends=2), sent(0.2), candidates=3, hedge_of=1),
        timer(),
        0.7,
        {"retry": "RETRY_SILENT", "left": 1, "suspect": {1}},
        {"hedge_of": 0, "1.suspected": 1},
    ),
    Row("a 100 ends the wait for silence", invite(works(), **ANSWERED), timer(), 1.5, {}, {}),
    Row(
        "and that of the servers before",
        invite(works(suspected=1), sent(1.0, suspected=1), candidates=3, **ANSWERED),
        timer(),
        2.5,
        {"resend": {1}},
        {"1.sends": 2, "1.last_sent": 2.5},
    ),
    Row(
        "an INVITE that has moved on after a 100 is repeated by us: pjsip does not",
        invite(ended(), sent(1.0), timeout=1.5, **ANSWERED, holds=1),
        timer(),
        1.5,
        {"resend": {1}},
        {"1.sends": 2, "1.last_sent": 1.5},
    ),
    Row(
        "at twice the time each",
        invite(ended(), sent(1.0, last_sent=1.5, sends=2), timeout=1.5, **ANSWERED, holds=1),
        timer(),
        2.4,
        {},
        {},
    ),
    Row(
        "three are a silence, as ever",
        invite(ended(), sent(1.0, last_sent=1.5, sends=2, suspected=1), timeout=1.5, **ANSWERED, holds=1),
        timer(),
        2.5,
        {"resend": {1}, "silent": {1}},
        {"1.sends": 3, "1.last_sent": 2.5, "1.silent": 1},
    ),
    Row(
        "none follows a hang-up",
        invite(ended(), sent(1.0), timeout=1.5, **ANSWERED, cancelled=1),
        timer(),
        1.5,
        {},
        {},
    ),
    Row(
        "after a 100 pjsip ends no INVITE: we do, when nobody is left who works on it",
        tcp(ended(), sent(1.0, suspected=1, silent=1, abandoned=1), invite=1, expires_at=300.0, **ANSWERED),
        timer(),
        34.0,
        {"end_transaction": 1, "forget": 1},
        {},
    ),
    Row(
        "a lost connection after a 100 is left for the next server",
        tcp(works(ended=1), stranded=1, invite=1, **ANSWERED),
        timer(),
        0.3,
        {"retry": "RETRY_LOST", "left": 0, "move_along": 1},
        {},
    ),
    Row(
        "not after a hang-up: the transaction ends",
        tcp(ended(), stranded=1, invite=1, cancelled=1, deferred=2, retry_deferred_at=0.4),
        timer(),
        0.3,
        {"end_transaction": 1, "forget": 1},
        {},
    ),
    Row(
        "not without a budget, and not later either",
        udp(sent(), hedge_at=0.2),
        timer(may_hedge=0),
        0.2,
        {},
        {"hedge_at": math.inf},
    ),
    Row(
        "a port is looked at in time",
        udp(sent(), check_port_at=0.1),
        timer(),
        0.1,
        {"check_port": 1},
        {"check_port_at": math.inf},
    ),
    Row("not once the request stays", udp(rings(), **PROCEEDING, check_port_at=0.1), timer(), 0.1, {}, {}),
    Row(
        "a closed port is left at once",
        udp(sent(refused=1, suspected=1)),
        timer(),
        0.1,
        {"retry": "RETRY_REFUSED", "left": 0},
        {},
    ),
    Row(
        "a closed port of an attempt that was left already changes nothing",
        udp(sent(refused=1, suspected=1), sent(0.1), candidates=3),
        timer(),
        0.2,
        {},
        {},
    ),
    Row(
        "a server that got one datagram only gets a second",
        udp(sent(suspected=1), ended(0.5), **COMPLETED),
        timer(),
        0.55,
        {"resend": {0}},
        {"0.sends": 2, "0.last_sent": 0.55},
    ),
    Row("not before pjsip has sent again", udp(sent(suspected=1), ended(0.5), **COMPLETED), timer(), 0.5, {}, {}),
    Row("not of an INVITE", invite(sent(suspected=1), ended(0.5), **COMPLETED), timer(), 1.6, {}, {}),
    Row("not to a closed port", udp(sent(suspected=1, refused=1), ended(0.5), **COMPLETED), timer(), 1.6, {}, {}),
    Row(
        "an overtaken server that left two unanswered for so long is silent",
        udp(sent(suspected=1, sends=2, overtaken=1), ended(0.5), **COMPLETED),
        timer(),
        1.5,
        {"silent": {0}},
        {"0.silent": 1},
    ),
    Row(
        "one alone may have been lost",
        udp(sent(suspected=1, began_suspect=1, overtaken=1), ended(0.5), **COMPLETED),
        timer(),
        1.5,
        {},
        {},
    ),
    Row(
        "what went on over UDP is repeated: pjsip does not, in a transaction over TCP",
        tcp(ended(), sent(1.0, reliable=0), tried=3, timeout=5.0),
        timer(),
        1.5,
        {"resend": {1}},
        {"1.sends": 2, "1.last_sent": 1.5},
    ),
    Row(
        "three times unanswered it counts as silent, as pjsip's own would",
        tcp(ended(), sent(1.0, last_sent=1.5, sends=2, reliable=0), tried=3, timeout=5.0),
        timer(),
        2.5,
        {"resend": {1}, "silent": {1}},
        {"1.sends": 3, "1.last_sent": 2.5, "1.silent": 1},
    ),
    Row(
        "a candidate that is barred is not tried: none leaves TLS",
        tcp(sent(), candidates=2, barred=2),
        timer(),
        0.5,
        {"suspect": {0}},
        {"0.suspected": 1},
    ),
    Row(
        "a connection that is silent for five seconds is told of, and abandoned",
        tcp(sent(suspected=1), rings(1.0), **PROCEEDING),
        timer(),
        5.0,
        {"silent": {0}, "abandon": {0}},
        {"0.silent": 1, "0.abandoned": 1},
    ),
    Row(
        "that of a request that goes nowhere else is only told of",
        watched(sent(), reliable=1),
        timer(),
        5.0,
        {"silent": {0}},
        {"0.silent": 1},
    ),
    Row(
        "a server that could not be reached is tried again, once no other is left",
        udp(sent(suspected=1, sends=2), tried=3, unreachable=2, retry_unreachable_at=1.0),
        timer(),
        1.0,
        {"retry": "RETRY_SILENT", "left": 0},
        {"tried": 1, "unreachable": 0},
    ),
    Row(
        "not before",
        udp(sent(suspected=1, sends=2), candidates=3, tried=7, unreachable=2, retry_unreachable_at=1.0),
        timer(),
        0.9,
        {},
        {},
    ),
    Row(
        "not while another is left",
        udp(sent(suspected=1, sends=2), candidates=3, tried=3, unreachable=2, retry_unreachable_at=1.0),
        timer(),
        1.0,
        {"retry": "RETRY_SILENT", "left": 0},
        {},
    ),
    Row(
        "a server that no connect was due to is tried when there may be one",
        tcp(sent(suspected=1), tried=3, deferred=2, retry_deferred_at=0.7),
        timer(),
        0.7,
        {"retry": "RETRY_SILENT", "left": 0},
        {"tried": 1, "deferred": 0, "deferrals": 1},
    ),
    Row(
        "the connection has ended: the next one is tried, and the transaction moves along",
        tcp(ended(), stranded=1),
        timer(),
        0.1,
        {"retry": "RETRY_LOST", "left": 0, "move_along": 1},
        {},
    ),
    Row("not while another may answer", tcp(ended(), sent(0.1), stranded=1), timer(), 0.2, {}, {}),
    Row(
        "with nobody left, the transaction ends",
        tcp(ended(), stranded=1, candidates=1),
        timer(),
        0.1,
        {"end_transaction": 1, "forget": 1},
        {},
    ),
    Row(
        "or the response that is held ends it",
        tcp(ended(), ended(0.1), stranded=1, holds=1),
        timer(),
        0.2,
        {"deliver_held": 1, "forget": 1},
        {**completed(0.2), "holds": 0},
    ),
    Row(
        "a connect that will be due is waited for",
        tcp(ended(), tried=3, stranded=1, deferred=2, retry_deferred_at=0.2),
        timer(),
        0.1,
        {},
        {},
    ),
    Row(
        "not for ever",
        tcp(ended(), tried=3, stranded=1, deferred=2, retry_deferred_at=0.2, deferrals=10),
        timer(),
        0.1,
        {"end_transaction": 1, "forget": 1},
        {},
    ),
    Row(
        "nor for a request that stays",
        tcp(ended(), ended(0.1), candidates=3, tried=7, stranded=1, deferred=4, retry_deferred_at=0.2, **PROCEEDING),
        timer(),
        0.1,
        {"end_transaction": 1, "forget": 1},
        {},
    ),
    Row(
        "the held response is given when the last server has been silent for four seconds",
        udp(ended(), sent(0.1, suspected=1, sends=4, silent=1), holds=1),
        timer(),
        4.1,
        {"deliver_held": 1},
        {**completed(4.1), "holds": 0},
    ),
    Row(
        "not while there is one to be tried",
        udp(ended(), sent(0.1, suspected=1, sends=4, silent=1), candidates=3, holds=1, timeout=9.0),
        timer(),
        4.1,
        {},
        {},
    ),
    Row(
        "a request is forgotten when its time is over",
        udp(sent(sends=9)),
        timer(),
        33.0,
        {"forget": 1},
        {"expires_at": 33.0 + 300},
    ),
    Row(
        "a ringing INVITE that outlives its 300 s is looked after while its transaction is there",
        invite(rings(), sent(0.5), **PROCEEDING, expires_at=300.0),
        timer(alive=1),
        300.0,
        {},
        {"expires_at": 300.0 + 300},
    ),
    Row(
        "and no longer",
        invite(rings(), sent(0.5), **PROCEEDING, expires_at=300.0),
        timer(alive=0),
        300.0,
        {"forget": 1},
        {"expires_at": 300.0 + 300},
    ),
    Row(
        "or a moment before, as all timers",
        udp(sent(sends=9)),
        timer(),
        32.996,
        {"forget": 1},
        {"expires_at": 32.996 + 300},
    ),
    Row(
        "a look that comes late for both is a silence, and no hedge follows",
        udp(sent(), hedge_at=0.2),
        timer(may_hedge=1),
        0.6,
        {"retry": "RETRY_SILENT", "left": 0, "suspect": {0}},
        {"0.suspected": 1, "hedge_at": math.inf},
    ),
    Row(
        "the held response does not wait for a connect for more than four seconds",
        tcp(ended(), tried=3, stranded=1, holds=1, deferred=2, retry_deferred_at=4.1),
        timer(),
        4.0,
        {"deliver_held": 1},
        {**completed(4.0), "holds": 0},
    ),
    Row(
        "without a timeout nobody is tried again",
        udp(sent(), tried=3, unreachable=2, retry_unreachable_at=1.0, timeout=math.inf),
        timer(),
        1.0,
        {},
        {},
    ),
    Row(
        "not to one that was suspect before",
        udp(sent(suspected=1, began_suspect=1), ended(0.5), **COMPLETED),
        timer(),
        0.6,
        {},
        {},
    ),
    Row("no third datagram", udp(sent(suspected=1, sends=2), ended(0.5), **COMPLETED), timer(), 1.6, {}, {}),
    Row(
        "a connection is abandoned once",
        tcp(sent(suspected=1, silent=1, abandoned=1), ended(), **COMPLETED),
        timer(),
        5.0,
        {},
        {},
    ),
]

OTHERS = [
    Row(
        "a connection ends, and the transaction is kept",
        tcp(sent()),
        ("CONNECTION_ENDED", {"attempt": 0, "kept": 1}),
        0.3,
        {},
        {"0.ended": 1, "0.silent": 1, "unreachable": 1, "retry_unreachable_at": 0.3 + 1, "stranded": 1},
    ),
    Row(
        "the last connection of a completed request ends: nothing more will come",
        tcp(sent(), ended(0.2), **COMPLETED, winner=1),
        ("CONNECTION_ENDED", {"attempt": 0}),
        0.3,
        {"forget": 1},
        {"0.ended": 1, "0.silent": 1, "unreachable": 1, "retry_unreachable_at": 0.3 + 1},
    ),
    Row(
        "a closed port makes the server suspect",
        udp(sent()),
        ("PORT_CLOSED", {"attempt": 0}),
        0.1,
        {},
        {"0.refused": 1, "0.suspected": 1},
    ),
    Row("not one that has answered", udp(rings(), **PROCEEDING), ("PORT_CLOSED", {"attempt": 0}), 0.1, {}, {}),
    Row(
        "and not for a request that is over",
        udp(sent(), ended(), **COMPLETED),
        ("PORT_CLOSED", {"attempt": 0}),
        0.1,
        {},
        {},
    ),
    Row(
        "nobody is left after a 503: the application gets it",
        invite(ended(), holds=1),
        ("NOBODY_LEFT", {"attempt": 0, "code": 503, "reason": "RETRY_CODE"}),
        0.2,
        {"pass": 1},
        {**completed(0.2, 0), "holds": 0},
    ),
    Row(
        "nobody is left after a lost connection: the transaction ends",
        tcp(ended(), tried=3, stranded=1),
        ("NOBODY_LEFT", {"attempt": 0, "reason": "RETRY_LOST"}),
        0.2,
        {"end_transaction": 1, "forget": 1},
        {},
    ),
    Row(
        "unless a connect will be due",
        tcp(ended(), tried=3, stranded=1, deferred=2),
        ("NOBODY_LEFT", {"attempt": 0, "reason": "RETRY_LOST"}),
        0.2,
        {},
        {},
    ),
    Row(
        "nobody is left after a silence: the silent one may answer still",
        udp(sent(suspected=1)),
        ("NOBODY_LEFT", {"attempt": 0, "reason": "RETRY_SILENT"}),
        0.6,
        {},
        {},
    ),
    Row(
        "the application gives up: the open attempts are watched still",
        udp(sent(suspected=1, sends=2)),
        ("GIVEN_UP", {}),
        0.7,
        {},
        COMPLETED,
    ),
    Row(
        "with none open, there is nothing to watch",
        tcp(ended(), stranded=1),
        ("GIVEN_UP", {}),
        0.7,
        {"forget": 1},
        COMPLETED,
    ),
    Row(
        "what was due is done all the same",
        udp(sent()),
        ("GIVEN_UP", {}),
        0.7,
        {"suspect": {0}},
        {**COMPLETED, "0.suspected": 1},
    ),
    Row(
        "detach: the INVITE rings at one server only",
        invite(rings(), rings(2.0), **PROCEEDING),
        ("DETACH", {}),
        3.0,
        {"cancel": {0, 1}, "forget": 1},
        {},
    ),
    Row("with one attempt nobody is cancelled", invite(rings(), **PROCEEDING), ("DETACH", {}), 3.0, {"forget": 1}, {}),
    Row("nor after the end", invite(ended(), sent(2.0), **COMPLETED), ("DETACH", {}), 3.0, {"forget": 1}, {}),
    Row("nor for a REGISTER", udp(sent(), sent(0.5)), ("DETACH", {}), 3.0, {"forget": 1}, {}),
    Row(
        "a connection ends, and the transaction with it",
        tcp(sent(), candidates=1),
        ("CONNECTION_ENDED", {"attempt": 0}),
        0.3,
        {"forget": 1},
        {**completed(0.3), "0.ended": 1, "0.silent": 1, "unreachable": 1, "retry_unreachable_at": 0.3 + 1},
    ),
    Row(
        "the transaction was over before: the INVITE's other servers are looked after still",
        tcp(rings(), sent(0.1), invite=1, **PROCEEDING),
        ("CONNECTION_ENDED", {"attempt": 0}),
        40.0,
        {},
        {**completed(40.0), "0.ended": 1, "0.silent": 1, "unreachable": 1, "retry_unreachable_at": 40.0 + 1},
    ),
    Row(
        "nobody is left, but another thread has had the final response meanwhile",
        invite(ended(), ended(0.1), **COMPLETED, winner=1),
        ("NOBODY_LEFT", {"attempt": 0, "code": 503, "reason": "RETRY_CODE"}),
        0.2,
        {},
        {},
    ),
    Row(
        "the application cancels: so do we, wherever else it rings",
        invite(rings(), rings(2.0), **PROCEEDING),
        ("CANCELLED", {"attempt": 1}),
        9.0,
        {"cancel": {0}},
        {"cancelled": 1},
    ),
    Row(
        "with one server, its own CANCEL is enough",
        invite(rings(), **PROCEEDING),
        ("CANCELLED", {"attempt": 0}),
        9.0,
        {},
        {"cancelled": 1},
    ),
]
# The application decides about final responses that the policy does not name.
RULED = [
    Row(
        "a 404 that the application decides about is held",
        udp(sent()),
        response(404, 0, askable=1),
        0.1,
        {"ask": 1, "hold": 1},
        {"0.ended": 1, **asked(0.1)},
    ),
    Row(
        "and acknowledged first, to an INVITE",
        invite(works(), **ANSWERED),
        response(404, 0, askable=1),
        0.1,
        {"ask": 1, "hold": 1, "acknowledge": 1},
        {"0.ended": 1, **asked(0.1)},
    ),
    Row(
        "what the policy names is not asked about",
        udp(sent()),
        response(503, 0, askable=1),
        0.1,
        {"retry": "RETRY_CODE", "left": 0, "code": 503, "move_along": 1, "hold": 1},
        {"0.ended": 1, "holds": 1},
    ),
    Row(
        "nor is what nobody is left for",
        udp(sent(), candidates=1),
        response(404, 0, askable=1),
        0.1,
        {"pass": 1, "forget": 1},
        {**completed(0.1, 0), "0.ended": 1},
    ),
    Row(
        "nor what comes after a 180",
        invite(rings(), **PROCEEDING),
        response(404, 0, askable=1),
        0.1,
        {"pass": 1, "forget": 1},
        {**completed(0.1, 0), "0.ended": 1},
    ),
    Row(
        "nor after a hang-up",
        invite(sent(), cancelled=1),
        response(404, 0, askable=1),
        0.1,
        {"pass": 1, "forget": 1},
        {**completed(0.1, 0), "0.ended": 1},
    ),
    Row(
        "a second one is not asked about meanwhile",
        udp(ended(), sent(0.3), candidates=3, **asked()),
        response(404, 1, askable=1),
        0.4,
        {"pass": 1, "move_to": 1, "forget": 1},
        {**completed(0.4, 1), "1.ended": 1, "0.overtaken": 1, "ruling": "RULING_NONE"},
    ),
    Row(
        "a 503 meanwhile is no reason to go on, nor held in its place",
        invite(ended(), sent(0.3), candidates=3, **asked()),
        response(503, 1),
        0.4,
        {"acknowledge": 1},
        {"1.ended": 1, "0.overtaken": 1},
    ),
    Row(
        "its repetition is held in its place",
        udp(ended(), **asked()),
        response(404, 0, askable=1),
        0.4,
        {"hold": 1},
        {},
    ),
    Row(
        "a 200 meanwhile ends the matter",
        udp(ended(), sent(0.3), candidates=3, **asked()),
        response(200, 1),
        0.4,
        {"pass": 1, "move_to": 1, "forget": 1},
        {**completed(0.4, 1), "1.ended": 1, "0.overtaken": 1, "ruling": "RULING_NONE"},
    ),
    Row(
        "the application says that it goes on",
        udp(ended(), **asked()),
        ("RULED", {"retriable": 1}),
        0.2,
        {},
        {"ruling": "RULING_RETRY"},
    ),
    Row("or that this is its answer", udp(ended(), **asked()), ("RULED", {}), 0.2, {}, {"ruling": "RULING_PASS"}),
    Row("too late it says nothing", udp(ended(), sent(0.5)), ("RULED", {"retriable": 1}), 0.7, {}, {}),
    Row("nothing happens until then", udp(ended(), **asked(0.3)), timer(), 0.6, {}, {}),
    Row(
        "it goes on",
        udp(ended(), **asked(0.1, ruling="RULING_RETRY")),
        timer(),
        0.2,
        {"retry": "RETRY_CODE", "left": 0, "code": 404, "move_along": 1},
        {"ruling": "RULING_NONE"},
    ),
    Row(
        "but waits for the others that have it",
        udp(ended(), sent(0.1), candidates=3, **asked(0.1, ruling="RULING_RETRY")),
        timer(),
        0.2,
        {},
        {"ruling": "RULING_NONE"},
    ),
    Row(
        "with nobody left meanwhile it is the answer",
        invite(ended(), cancelled=1, **asked(0.1, ruling="RULING_RETRY")),
        timer(),
        0.2,
        {"deliver_held": 1},
        {**completed(0.2), "ruling": "RULING_NONE", "holds": 0},
    ),
    Row(
        "it is the answer",
        udp(ended(), **asked(0.1, ruling="RULING_PASS")),
        timer(),
        0.2,
        {"deliver_held": 1},
        {**completed(0.2), "ruling": "RULING_NONE", "holds": 0},
    ),
    Row(
        "as it is when the application says nothing",
        udp(ended(), **asked(0.1)),
        timer(),
        0.6,
        {"deliver_held": 1},
        {**completed(0.6), "ruling": "RULING_NONE", "holds": 0},
    ),
    Row(
        "a lost connection changes nothing about it",
        tcp(ended(), stranded=1, **asked(0.1)),
        timer(),
        0.2,
        {},
        {},
    ),
    Row(
        "without room to ask the response is passed at once",
        udp(ended(), **asked(0.1)),
        ("NOBODY_LEFT", {"attempt": 0, "code": 404, "reason": "RETRY_CODE"}),
        0.1,
        {"pass": 1},
        {**completed(0.1, 0), "ruling": "RULING_NONE", "holds": 0},
    ),
    Row(
        "nobody could be reached after it had said to go on: what is held is the answer",
        udp(ended(), candidates=3, holds=1),
        ("NOBODY_LEFT", {"attempt": 0, "reason": "RETRY_CODE"}),
        0.2,
        {"deliver_held": 1},
        {**completed(0.2), "holds": 0},
    ),
    Row(
        "detach: what is held is the answer",
        udp(ended(), **asked(0.1)),
        ("DETACH", {}),
        0.2,
        {"deliver_held": 1, "forget": 1},
        {},
    ),
    Row(
        "a request that is given up asks no more",
        udp(ended(), **asked(0.1)),
        ("GIVEN_UP", {}),
        0.2,
        {"forget": 1},
        {**COMPLETED, "ruling": "RULING_NONE"},
    ),
]
ROWS = RESPONSES + TIMES_OUT + OTHERS + RULED


@Table("row", ROWS, ids=lambda row: row.behaviour)
def test_decisions(decider: Decider, row: Row) -> None:
    kind, fields = row.event
    does, becomes = decider.changes(decider.request(**row.given), decider.event(kind, **fields), row.now)
    assert (does, becomes) == (row.does, row.becomes)


def test_each_behaviour_is_a_row_of_its_own() -> None:
    assert len({row.behaviour for row in ROWS}) == len(ROWS)


@Table(
    ("behaviour", "given", "due"),
    [
        ("its time is over", udp(rings(), **PROCEEDING), 33.0),
        ("the next server's turn", udp(sent()), 0.5),
        ("the newest attempt's time counts", udp(sent(suspected=1, sends=2), ended(0.4), candidates=3), 0.9),
        ("nobody is left, the server is still to be suspected", udp(sent(), candidates=1), 0.5),
        ("suspected already: a second datagram", udp(sent(suspected=1), candidates=1), 0.55),
        ("second datagrams for those that began late", udp(sent(suspected=1, sends=2), sent(2.0, suspected=1)), 2.55),
        ("a 100 ends the wait for silence", invite(works(), **ANSWERED), 33.0),
        ("what pjsip repeats no more",
         invite(ended(), sent(1.0, suspected=1), **ANSWERED, timeout=3.0, holds=1), 1.5),
        ("no more than seven times",
         invite(ended(), sent(1.0, sends=7, suspected=1), **ANSWERED, expires_at=99.0), 34.0),
        ("an INVITE gets none", invite(sent(suspected=1), candidates=1), 33.0),
        ("the hedge", udp(sent(), hedge_at=0.2), 0.2),
        ("the port's check", udp(sent(), check_port_at=0.1), 0.1),
        ("neither, once it stays", udp(rings(), **PROCEEDING, hedge_at=0.2, check_port_at=0.1), 33.0),
        ("the unreachable, once none is left",
         udp(sent(suspected=1, sends=2), tried=3, unreachable=2, retry_unreachable_at=0.8), 0.8),
        ("not while one is left",
         udp(sent(suspected=1, sends=2), candidates=3, tried=3, unreachable=2, retry_unreachable_at=0.2), 0.5),
        ("without a timeout never",
         udp(sent(), tried=3, unreachable=2, retry_unreachable_at=0.8, timeout=math.inf), 33.0),
        ("the deferred", tcp(sent(), tried=3, deferred=2, retry_deferred_at=0.1), 0.1),
        ("the application's time to decide", udp(ended(), **asked(0.1)), 0.6),
        ("what it has decided", udp(ended(), **asked(0.1, ruling="RULING_RETRY")), 0.0),
        ("the held response", udp(ended(), sent(0.1, suspected=1, sends=2), holds=1), 4.1),
        ("not while a server is left", udp(ended(), ended(0.1), candidates=3, holds=1, timeout=6.0), 6.1),
        ("a connection's silence", tcp(sent(suspected=1), candidates=1), 5.0),
        ("an abandoned one's is over", tcp(sent(suspected=1, silent=1, abandoned=1), candidates=1), 33.0),
        ("a connection that is only watched", watched(sent(), reliable=1), 5.0),
        ("a repetition over UDP", tcp(ended(), sent(1.0, sends=3, last_sent=2.5, reliable=0, silent=1), tried=3), 1.5),
        ("of an INVITE, always later", tcp(ended(), sent(1.0, sends=6, last_sent=9.0, reliable=0, silent=1,
                                                         suspected=1), tried=3, invite=1), 25.0),
        ("of others, after four seconds", tcp(ended(), sent(1.0, sends=6, last_sent=9.0, reliable=0, silent=1,
                                                            suspected=1), tried=3), 13.0),
        ("is told of once", watched(sent(silent=1), reliable=1), 33.0),
        ("an overtaken server's silence", udp(sent(suspected=1, sends=2, overtaken=1), ended(), **COMPLETED), 1.5),
        ("over UDP nothing else tells it", watched(sent()), 33.0),
    ],
)  # fmt: skip
def test_the_next_look_is_due(decider: Decider, behaviour: str, given: Fields, due: float) -> None:
    assert decider.lib.failover_due(decider.request(**given)) == pytest.approx(due)


@Table(
    ("behaviour", "given", "at", "copies", "silent"),
    [
        ("one server alone gets no copies", udp(sent()), 0.5, set(), set()),
        ("the others get a copy of what pjsip repeats", udp(sent(-1.0), sent()), 0.5, {1}, set()),
        ("not those that have answered", udp(sent(-1.0), rings(), **PROCEEDING), 0.5, set(), set()),
        ("nor those that were sent to just now", udp(sent(-1.0), sent(0.2)), 0.5, set(), set()),
        ("once pjsip and we do not send at the same time", udp(sent(-1.0), sent(0.2)), 0.7, {1}, set()),
        ("those that were suspect before later", udp(sent(-1.0), sent(began_suspect=1)), 1.9, set(), set()),
        ("but they do", udp(sent(-1.0), sent(began_suspect=1)), 2.1, {1}, set()),
        ("at twice the time that has passed, not at pjsip's pace",
         udp(sent(-1.0), sent(last_sent=2.5, sends=2, began_suspect=1)), 4.9, set(), set()),
        ("twice is now", udp(sent(-1.0), sent(last_sent=2.5, sends=2, began_suspect=1)), 5.1, {1}, {1}),
        ("three sends without a response are a silence", udp(sent(last_sent=0.5, sends=2)), 1.5, set(), {0}),
        ("which is told of once", udp(sent(last_sent=1.5, sends=3, silent=1)), 3.5, set(), set()),
        ("an answer is no silence", udp(rings(last_sent=0.5, sends=2), **PROCEEDING), 1.5, set(), set()),
        ("over connections nothing is repeated", tcp(sent(-1.0), sent()), 0.5, set(), set()),
        ("nor after the end", udp(sent(-1.0), sent(), **COMPLETED), 0.5, set(), set()),
        ("nor after a hang-up", invite(sent(-1.0), sent(), cancelled=1), 0.5, set(), set()),
    ],
)  # fmt: skip
def test_copies(decider: Decider, behaviour: str, given: Fields, at: float, copies: set[int], silent: set[int]) -> None:
    request, actions = decider.request(**given), decider.actions()
    before = decider.snapshot(request)
    assert members(decider.lib.failover_resend(request, 0, at, actions)) == copies
    assert members(actions.silent) == silent
    changed = {f"{index}.{name}" for index in {0, *copies} for name in ("sends", "last_sent")}
    changed |= {f"{index}.silent" for index in silent}
    assert set(decider.difference(before, decider.snapshot(request))) == changed


@Table(
    ("behaviour", "given", "copies", "begin_anew"),
    [
        ("what was sent before the thread ran is asked again", udp(sent(), sent(0.3), candidates=3), {0, 1}, {0, 1}),
        ("not what was sent since", udp(sent(), sent(12.0), candidates=3), {0}, {0}),
        ("nor who has answered", udp(works(), ended(), sent(0.3), candidates=4), {2}, {2}),
        ("nor who was silent before", udp(sent(silent=1)), set(), set()),
        ("over a connection nothing is sent twice", tcp(sent()), set(), {0}),
        ("of a request that is over nothing is", udp(sent(), ended(0.5), **COMPLETED), set(), {0}),
        ("nor of a call that was hung up", invite(sent(), cancelled=1), set(), {0}),
        ("nor to a closed port", udp(sent(refused=1)), set(), {0}),
        ("nor of what is only watched", watched(sent()), set(), {0}),
        ("a third time is the last", udp(sent(resumed=2)), {0}, {0}),
        ("so a process that never keeps up judges in the end", udp(sent(resumed=3)), set(), set()),
    ],
)
def test_clocks_begin_anew_when_nothing_was_read(
    decider: Decider, behaviour: str, given: Fields, copies: set[int], begin_anew: set[int]
) -> None:
    request = decider.request(**given, hedge_at=0.2)
    before = decider.snapshot(request)
    assert members(decider.lib.failover_resume(request, 12.0, 12.1)) == copies
    changed = decider.difference(before, decider.snapshot(request))
    assert {name for name in changed if name.endswith("first_sent")} == {f"{each}.first_sent" for each in begin_anew}
    assert all(request.attempts[each].first_sent == 12.1 for each in begin_anew)
    assert math.isinf(request.hedge_at) == bool(begin_anew)


@Table(
    ("behaviour", "given", "suspects", "candidate"),
    [
        ("the first that was not tried", udp(sent(), candidates=3), set(), 1),
        ("suspects come after", udp(sent(), candidates=3), {1}, 2),
        ("in their order", udp(sent(), candidates=3), {1, 2}, 1),
        ("the last resorts come behind suspects", udp(sent(), candidates=3, last_resorts=0b010), {2}, 2),
        ("in their order too", udp(sent(), candidates=3, last_resorts=0b110), set(), 1),
        ("suspect last resorts last", udp(sent(), candidates=3, last_resorts=0b110), {1}, 2),
        ("but not never", udp(sent(), candidates=2, last_resorts=0b010), {1}, 1),
        ("nobody is left", udp(sent(), candidates=1), set(), -1),
        ("or wanted", invite(sent(), cancelled=1), set(), -1),
        ("or no attempt", udp(sent(), candidates=2, max_attempts=1), set(), -1),
        ("all bits of a plan are candidates", udp(sent(), candidates=32, tried=2**31 - 1), set(), 31),
        ("who is watched goes nowhere", watched(sent()), set(), -1),
    ],
)
def test_the_next_candidate(
    decider: Decider, behaviour: str, given: Fields, suspects: set[int], candidate: int
) -> None:
    request, lib = decider.request(**given), decider.lib
    assert lib.failover_next_candidate(request, bits(suspects), lib.RETRY_SILENT) == candidate
    assert lib.failover_has_candidate(request) == (candidate >= 0)


def test_a_hedge_goes_to_no_last_resort(decider: Decider) -> None:
    lib = decider.lib
    request = decider.request(**udp(sent(), candidates=3, last_resorts=0b010))
    assert lib.failover_next_candidate(request, 0b100, lib.RETRY_SLOW) == 2
    request.tried |= 0b100
    assert lib.failover_next_candidate(request, 0, lib.RETRY_SLOW) == -1


@Table(
    ("behaviour", "given", "attempt", "credited"),
    [
        ("a server stands for itself", udp(sent(), sent(0.5)), 1, 1),
        ("a hedge stands for the server that is late", udp(sent(), sent(0.2, hedge_of=1)), 1, 0),
        ("until that has failed", udp(ended(), sent(0.2, hedge_of=1)), 1, 1),
        ("the late server stands for itself", udp(sent(), sent(0.2, hedge_of=1)), 0, 0),
    ],
)
def test_who_has_an_account(decider: Decider, behaviour: str, given: Fields, attempt: int, credited: int) -> None:
    assert decider.lib.failover_credited_attempt(decider.request(**given), attempt) == credited


@Table(
    ("behaviour", "given", "outlives"),
    [
        ("there is another server", tcp(sent()), True),
        ("or will be", tcp(sent(), tried=3, deferred=2), True),
        ("another attempt is open", tcp(sent(), sent()), True),
        ("another has ended, and its response may be held", tcp(sent(), ended(), holds=1), True),
        ("there is none", tcp(sent(), candidates=1), False),
        ("the request stays", tcp(rings(), **PROCEEDING), False),
        ("its response is held until the application decides", tcp(ended(), cancelled=1, **asked()), True),
    ],
)
def test_what_outlives_its_connection(decider: Decider, behaviour: str, given: Fields, outlives: bool) -> None:
    assert bool(decider.lib.failover_outlives_connection(decider.request(**given))) == outlives


def test_attempts_are_added(decider: Decider) -> None:
    request, lib = decider.request(max_attempts=2, candidate_count=4), decider.lib
    assert lib.failover_add_attempt(request, -1, 0b0001, 0, 1.0) == 0
    assert lib.failover_add_attempt(request, -1, 0b0110, 7, 2.0) == 1
    attempt = request.attempts[1]
    assert (attempt.first_sent, attempt.last_sent, attempt.sends, attempt.candidates) == (2.0, 2.0, 1, 0b0110)
    assert (attempt.suspected, attempt.began_suspect) == (1, 1)
    assert (request.newest, request.attempt_count, request.tried) == (1, 2, 0b0111)
    # A candidate for which there is no room is tried, too: nobody comes back to it.
    assert lib.failover_add_attempt(request, -1, 0b1000, 0, 3.0) == -1
    assert (request.newest, request.attempt_count, request.tried) == (1, 2, 0b1111)
    # A server that had the request before takes its place.
    request.attempts[0].ended = request.attempts[0].provisional = 1
    assert lib.failover_add_attempt(request, 0, 0b0001, 0, 4.0) == 0
    assert (request.newest, request.attempt_count) == (0, 2)
    attempt = request.attempts[0]
    assert (attempt.first_sent, attempt.sends, attempt.ended, attempt.provisional) == (4.0, 1, 0, 0)


def test_servers_that_could_not_be_tried_are_noted(decider: Decider) -> None:
    request = decider.request(**tcp(sent(), candidates=3))
    decider.lib.failover_note_unreachable(request, 0b010, 5.0)
    decider.lib.failover_note_deferred(request, 0b100, 6.0)
    assert (request.tried, request.unreachable, request.deferred) == (0b111, 0b010, 0b100)
    assert request.retry_unreachable_at == pytest.approx(6.0)
    assert request.retry_deferred_at == pytest.approx(6.1)


def test_a_held_response_is_acknowledged_by_us_after_it_was_given_too(decider: Decider) -> None:
    """The transaction is where the last server is: an ACK of pjsip's would go there."""
    request = decider.request(**invite(ended(), sent(0.1, suspected=1, silent=1)))
    kind, repeated = response(503, 0)
    assert decider.changes(request, decider.event(kind, **repeated), 0.6)[0] == {"hold": 1, "acknowledge": 1}
    assert decider.changes(request, decider.event("TIMER"), 4.1)[0] == {"deliver_held": 1}
    assert decider.changes(request, decider.event(kind, **repeated), 4.6)[0] == {"acknowledge": 1}


@Table(
    ("behaviour", "given", "at", "asks"),
    [
        ("it rings", invite(rings(), sent(), **PROCEEDING), 33.0, True),
        ("a moment before, as all timers", invite(rings(), sent(), **PROCEEDING), 32.996, True),
        ("it is not time yet", invite(rings(), sent(), **PROCEEDING), 32.9, False),
        ("one attempt is pjsip's alone", invite(rings(), **PROCEEDING), 33.0, False),
        ("nobody has answered", invite(sent(), sent()), 33.0, False),
        ("it is over", invite(sent(), ended(), **COMPLETED), 33.0, False),
    ],
)
def test_whether_the_transaction_is_there_matters_when_time_is_over(
    decider: Decider, behaviour: str, given: Fields, at: float, asks: bool
) -> None:
    assert bool(decider.lib.failover_asks_if_alive(decider.request(**given), at)) == asks


@Table(
    ("behaviour", "given", "at", "repeated"),
    [
        ("pjsip has just repeated it", udp(sent(sends=2, last_sent=0.5)), 0.51, True),
        ("pjsip repeated it a while ago", udp(sent(sends=2, last_sent=0.5)), 0.6, False),
        ("it was sent once", udp(sent(0.5)), 0.51, False),
        ("we have sent copies", udp(sent(sends=2, last_sent=0.5), sent(0.5)), 0.51, False),
        ("an INVITE rings where it goes", invite(sent(sends=2, last_sent=0.5)), 0.51, False),
    ],
)
def test_what_was_just_repeated_has_a_transaction(
    decider: Decider, behaviour: str, given: Fields, at: float, repeated: bool
) -> None:
    assert bool(decider.lib.failover_was_just_repeated(decider.request(**given), at)) == repeated


@Table(
    ("behaviour", "attempt", "may_ring"),
    [
        ("it rings", rings(), True),
        ("another may have ended it", rings(ended=1, guessed=1), True),
        ("it has ended", rings(ended=1), False),
        ("nobody has answered", sent(), False),
        ("nobody rang, and another may have ended it", ended(guessed=1), False),
    ],
)
def test_who_may_ring(decider: Decider, behaviour: str, attempt: Fields, may_ring: bool) -> None:
    request = decider.request(**invite(attempt, sent(2.0)))
    assert bool(decider.decide(request, decider.event("CANCELLED"), 3.0).cancel) == may_ring


# --- laws ---------------------------------------------------------------------------------------------------------

TIMES = (0.0, 0.02, 0.3, 0.49, 0.6, 1.1, 2.5, 5.5, 12.0, 31.0, 34.0)


@st.composite
def responses(draw: st.DrawFn) -> tuple[Response, ...]:
    unknown = draw(st.sampled_from((False, False, False, True)))
    codes = draw(st.sampled_from(((), (200,), (503,), (404,), (486,), (401,), (100,), (180,))))
    if codes and codes[0] < 200:
        codes += draw(st.sampled_from(((), (200,), (486,), (503,), (180, 200))))
    after, script = 0.0, []
    for code in codes:
        after += draw(st.sampled_from(TIMES))
        script.append(Response(after, code, unknown))
    return tuple(script)


SERVERS = st.builds(
    Server,
    responses=responses(),
    connects=st.lists(st.sampled_from(("ok", "refused", "deferred", "unsendable")), max_size=3).map(tuple)
    | st.just(("deferred",) * 40)
    | st.just(("refused",) * 40),
    lost_after=st.sampled_from((math.inf, math.inf, *TIMES)),
    port_closed=st.sampled_from((False, False, False, True)),
    suspect=st.booleans(),
    last_resort=st.sampled_from((False, False, True)),
    deaf=st.sampled_from((0, 0, 1, 2)),
    heeds_cancel=st.sampled_from((True, True, False)),
)
SCENARIOS = st.builds(
    Scenario,
    servers=st.lists(SERVERS, min_size=2, max_size=5).map(tuple),
    invite=st.booleans(),
    reliable=st.booleans(),
    watched_only=st.sampled_from((False, False, False, True)),
    timeout=st.sampled_from((0.5, 2.0, 6.0)),
    max_attempts=st.sampled_from((8, 8, 3, 1)),
    hedge_after=st.sampled_from((math.inf, 0.105, 0.3)),
    may_hedge=st.booleans(),
    cancel_after=st.sampled_from((60.0, 3.0, 0.7)),
    ruling=st.sampled_from((None, None, (0.02, True), (0.02, False), (0.3, True), (2.0, True))),
    room=st.sampled_from((True, True, True, False)),
    lateness=st.lists(st.sampled_from((0.0, -0.004, 0.003, 0.03, 1.0, 40.0)), min_size=1, max_size=4).map(tuple),
)


@settings(max_examples=300)
@given(scenario=SCENARIOS)
def test_laws_hold_whatever_the_servers_do(decider: Decider, scenario: Scenario) -> None:
    simulation = Simulation(decider, scenario)
    try:
        simulation.run()
        simulation.check()
    except AssertionError as error:
        raise type(error)("\n".join([str(error), *simulation.record])) from None
