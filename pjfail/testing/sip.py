"""The part of SIP messages that a server needs which answers everything itself (RFC 3261 section 7)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..model import Transport

_COMPACT = {
    "v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length", "c": "content-type",
    "s": "subject", "k": "supported", "o": "event",
}  # fmt: skip

_REASONS = {
    100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 408: "Request Timeout", 480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist",
    486: "Busy Here", 487: "Request Terminated", 500: "Server Internal Error", 503: "Service Unavailable",
    603: "Decline",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived: ``at`` (``time.monotonic()``), over ``transport``, from ``source`` (address, port).

    ``headers`` are pairs of a name, in lower case and in its long form, and a value, in order; ``raw`` is the message.
    """

    method: str
    uri: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    at: float
    transport: Transport
    source: tuple[str, int]
    raw: str = field(repr=False)

    def every(self, name: str) -> list[str]:
        """Returns the values of all headers called *name* (lower case), in order."""
        return [value for header, value in self.headers if header == name]

    def header(self, name: str) -> str:
        """Returns the first value of the header called *name* (lower case); "" if there is none."""
        return next(iter(self.every(name)), "")

    @property
    def call_id(self) -> str:
        return self.header("call-id")

    @property
    def from_(self) -> str:
        return self.header("from")

    @property
    def to(self) -> str:
        return self.header("to")

    @property
    def cseq(self) -> int:
        """The number in CSeq. Raises IndexError or ValueError if there is none."""
        return int(self.header("cseq").split()[0])

    @property
    def branch(self) -> str:
        """The branch of the topmost Via; a retransmission has the same one."""
        return _parameter(self.header("via"), "branch")

    @property
    def expires(self) -> int:
        """The seconds that a REGISTER asks for: the Contact's own, else the Expires header's, else an hour."""
        asked = _parameter(self.header("contact"), "expires") or self.header("expires")
        return int(asked) if asked.isdigit() else 3600

    def response(self, code: int, *headers: tuple[str, str], tag: str = "", body: str = "") -> bytes:
        """Returns a response to this request; *tag* goes into a To header that has none yet."""
        to = self.to
        if tag and code > 100 and ";tag=" not in to:
            to = f"{to};tag={tag}"
        vias = self.every("via")
        address, port = self.source
        vias[0] = re.sub(r";rport(?=;|$)", f";received={address};rport={port}", vias[0])
        lines = [f"SIP/2.0 {code} {_REASONS.get(code, 'Said So')}"]
        lines += [f"Via: {via}" for via in vias]
        lines += [f"From: {self.from_}", f"To: {to}", f"Call-ID: {self.call_id}", f"CSeq: {self.header('cseq')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines += [f"Content-Length: {len(body.encode())}", "", body]
        return "\r\n".join(lines).encode()


def parse_request(raw: bytes, at: float, transport: Transport, source: tuple[str, int]) -> Request | None:
    """Returns the request in *raw*; None for a response, a keep-alive or anything else."""
    text = raw.decode("utf-8", "replace")
    head, _, _ = text.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    start = re.fullmatch(r"([A-Z]+) (\S+) SIP/2\.0", first)
    if start is None:
        return None
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        lowered = name.strip().lower()
        headers.append((_COMPACT.get(lowered, lowered), value.strip()))
    return Request(start[1], start[2], tuple(headers), at, transport, source, text)


def cut_message(buffer: bytearray) -> bytes | None:
    """Takes the first whole message off a stream's *buffer* (RFC 3261 section 18.3); returns None until one has
    arrived.
    """
    while buffer.startswith(b"\r\n"):
        del buffer[:2]
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = re.search(rb"\r\n(?:content-length|l)\s*:\s*(\d+)", buffer[:end], re.IGNORECASE)
    whole = end + 4 + (int(length[1]) if length else 0)
    if len(buffer) < whole:
        return None
    message = bytes(buffer[:whole])
    del buffer[:whole]
    return message


def _parameter(value: str, name: str) -> str:
    found = re.search(rf";\s*{name}\s*=\s*\"?([^;,\s\"]+)", value, re.IGNORECASE)
    return found[1] if found else ""
