"""What the core has queued for the worker: questions, outcomes, answers. Each is taken once, oldest first."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from .. import events
from .._native import ffi, lib
from ..model import CertificateProblem, Outcome, OutcomeKind, Question
from .accounts import Account, account_of
from .calls import Call
from .dns import DnsAnswer, DnsRecord
from .pins import Registration
from .requests import Answer
from .rulings import Ruling
from .standby import StandbyResult
from .status import strerror
from .values import known, own_text_of, server_of, server_or_none, target_of, text_of

T = TypeVar("T")

_SEEN = tuple(OutcomeKind)
_WHY = (
    events.Reason.SILENT,
    events.Reason.SLOW,
    events.Reason.CODE,
    events.Reason.LOST,
    events.Reason.RACE,
    events.Reason.REFUSED,
)
_BATCH = 256
_A, _AAAA = 1, 28  # RFC 1035, RFC 3596


def event_fd() -> int:
    """Returns the descriptor that is readable when there is something to fetch; negative when detached."""
    return int(lib.pf_event_fd())


def questions() -> Iterator[Question]:
    """Takes the questions; call it before :func:`outcomes`, because it resets the descriptor."""
    return _taken(lib.pf_next_query, _question)


def outcomes() -> list[Outcome]:
    """Takes the outcomes, oldest first."""
    seen: list[Outcome] = []
    batch = ffi.new("pf_outcome[]", _BATCH)
    while True:
        count = lib.pf_next_outcomes(batch, _BATCH)
        seen.extend(_outcome(batch[index]) for index in range(count))
        if count < _BATCH:
            return seen


def failovers() -> Iterator[events.FailedOver]:
    """Takes the failovers of requests under way, oldest first."""
    return _taken(lib.pf_next_failover, _failover)


def registrations() -> Iterator[Registration]:
    """Takes the news of followed accounts and their REGISTERs, oldest first."""
    return _taken(lib.pf_next_registration, _registration)


def standbys() -> Iterator[StandbyResult]:
    """Takes what became of standby registrations, oldest first."""
    return _taken(lib.pf_next_standby, _standby)


def calls() -> Iterator[Call]:
    """Takes what has been found of the calls of followed accounts, oldest first."""
    return _taken(lib.pf_next_call, _call)


def found_accounts() -> Iterator[tuple[int, Account | None]]:
    """Takes the accounts that :func:`pjfail.bridge.accounts.read_soon` asked for; None where there is none."""
    return _taken(lib.pf_next_found_account, _found_account)


def answers() -> Iterator[Answer]:
    """Takes the ends of pjfail's own requests."""
    return _taken(lib.pf_next_response, _answer)


def rulings() -> Iterator[Ruling]:
    """Takes the responses that are held until :func:`pjfail.bridge.rulings.rule`."""
    return _taken(lib.pf_next_ruling, _ruling)


def dns_answers() -> Iterator[DnsAnswer]:
    """Takes the answers of pjsip's DNS resolver."""
    return _taken(lib.pf_next_dns_answer, _dns_answer)


def _taken(fetch: Callable[[], Any], value: Callable[[Any], T]) -> Iterator[T]:
    """Returns the values of what *fetch* returns until it returns NULL; each is freed once it has been read."""
    while (c := fetch()) != ffi.NULL:
        try:
            taken = value(c)
        finally:
            lib.pf_free(c)
        yield taken


def _question(c: Any) -> Question:
    return Question(
        target=target_of(c.target),
        number=int(c.id),
        refresh=bool(c.refresh),
        method=text_of(c.method),
        from_uri=text_of(c.from_uri),
        call_id=text_of(c.call_id),
        to_tag=text_of(c.to_tag),
    )


def _outcome(c: Any) -> Outcome:
    return Outcome(
        server=server_of(c.server),
        seen=_SEEN[c.seen],
        at=c.at,
        method=text_of(c.method),
        code=c.code,
        rtt=known(c.rtt),
        retry_after=known(c.retry_after),
        after_provisional=bool(c.after_provisional),
        detail=_detail(c),
        certificate=CertificateProblem(c.certificate),
        sequence=c.sequence,
        began=c.began,
        answers=c.answers,
    )


def _detail(c: Any) -> str:
    if c.seen == lib.PF_REFUSED and c.server.transport == lib.PF_UDP:
        return "port unreachable"
    return strerror(c.status) if c.status else ""


def _failover(c: Any) -> events.FailedOver:
    return events.FailedOver(
        method=text_of(c.method),
        call_id=text_of(c.call_id),
        left=server_of(c.left),
        taken=server_of(c.taken),
        why=_WHY[c.why],
        after=c.after,
        code=c.code,
    )


def _registration(c: Any) -> Registration:
    return Registration(
        account=int(c.account),
        aor=own_text_of(c.aor),
        server=server_or_none(c.server),
        answered=server_or_none(c.answered),
        code=int(c.code),
        status=int(c.status),
        retry_after=known(c.retry_after),
        removed=bool(c.removed),
        registered=bool(c.registered),
        closed=bool(c.closed),
        next_hop=target_of(c.next_hop) if c.next_hop.host[0] != b"\0" else None,
        call=int(c.call),
    )


def _standby(c: Any) -> StandbyResult:
    return StandbyResult(
        account=int(c.account),
        aor=own_text_of(c.aor),
        server=server_of(c.server),
        code=int(c.code),
        status=int(c.status),
        retry_after=known(c.retry_after),
        lost=bool(c.lost),
        unknown=bool(c.unknown),
    )


def _call(c: Any) -> Call:
    return Call(
        account=int(c.account),
        id=int(c.id),
        call_id=own_text_of(c.call_id),
        server=server_of(c.server),
        ended=bool(c.ended),
        refreshed=bool(c.refreshed),
    )


def _found_account(c: Any) -> tuple[int, Account | None]:
    return int(c.id), account_of(int(c.id), c.account) if c.found else None


def _answer(c: Any) -> Answer:
    reason, headers, body = _message(bytes(ffi.buffer(c.message, c.head + c.body)), c.head)
    return Answer(
        number=int(c.id),
        status=int(c.status),
        at=float(c.at),
        server=server_or_none(c.server),
        code=int(c.code),
        reason=reason,
        headers=headers,
        body=body,
    )


def _message(text: bytes, head: int) -> tuple[str, tuple[str, ...], bytes]:
    """Reason, headers and body of a response; *head*: how many octets the first two are, each with its zero."""
    reason, *headers = text[:head].decode("utf-8", "replace").split("\0")[:-1] or [""]
    return reason, tuple(headers), text[head:]


def _ruling(c: Any) -> Ruling:
    text = bytes(ffi.buffer(c.text, c.head + c.body + c.message))
    reason, headers, body = _message(text[: c.head + c.body], c.head)
    return Ruling(
        request=int(c.request),
        number=int(c.number),
        message=text[c.head + c.body :],
        response=Answer(0, 0, 0.0, server_or_none(c.server), int(c.code), reason, headers, body),
        rtt=float(c.rtt),
        remaining=tuple(server_of(c.remaining[index]) for index in range(c.remaining_count)),
    )


def _dns_answer(c: Any) -> DnsAnswer:
    records = tuple(_record(c.records[index]) for index in range(c.count))
    return DnsAnswer(c.id, bool(c.exists), strerror(c.status) if c.status else "", records)


def _record(c: Any) -> DnsRecord:
    address = ""
    if c.type == _A:
        address = socket.inet_ntop(socket.AF_INET, bytes(ffi.buffer(c.ip, 4)))
    elif c.type == _AAAA:
        address = socket.inet_ntop(socket.AF_INET6, bytes(ffi.buffer(c.ip, 16)))
    return DnsRecord(text_of(c.name), c.type, c.ttl, c.priority, c.weight, c.port, text_of(c.target), address)
