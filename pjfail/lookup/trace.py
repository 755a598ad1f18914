"""Traces the questions to name servers and their answers, line by line."""

from __future__ import annotations

from collections.abc import Callable

from dns.name import Name

from ..errors import LookupFailed
from .resolver import Answer, Kind, Resolver

Trace = Callable[[str], object]
"""Called with one line, in the loop."""


class TracedResolver:
    """A :class:`Resolver` that passes each question to *resolver*, and calls *trace* with the question and the
    answer.
    """

    def __init__(self, resolver: Resolver, trace: Trace) -> None:
        self._resolver = resolver
        self._trace = trace

    async def resolve(self, name: Name, kind: Kind) -> Answer:
        question = f"{name.to_text(omit_final_dot=True)} {kind}"
        self._trace(f"? {question}")
        try:
            answer = await self._resolver.resolve(name, kind)
        except LookupFailed as error:
            self._trace(f"! {question}: {error}")
            raise
        records = "; ".join(record.to_text() for record in answer.records) or "none"
        self._trace(f"= {question}: {records} (TTL {answer.ttl:g} s)")
        return answer
