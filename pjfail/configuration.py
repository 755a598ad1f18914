"""What ``python -m pjfail run`` and ``PJFAIL=1`` attach with: a TOML file, and the variables of the environment.

The keys of the file, and those of its tables ``retry``, ``probe`` and ``follow``, have the names of the arguments that
they are.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from ._values import dataclass
from .errors import PjfailError
from .follow_settings import Follow
from .lookup import DnsLookup, Lookup, StaticLookup
from .model import TRANSPORTS, Transport
from .probe import Probe
from .retry import RetryPolicy
from .shared import Shared

T = TypeVar("T", RetryPolicy, Probe, Follow)

FOLLOW = Follow(network=True)
"""How the accounts of a program are followed that nobody has touched: it does not look after its network either."""

LEVELS = ("debug", "info", "warning", "error")


class BadConfiguration(PjfailError, ValueError):
    """A file or a variable that says what cannot be meant; the message says where, and what to write."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings of an attachment; None, or an empty table, for what nothing was said about."""

    servers: Mapping[str, tuple[str, ...]]
    nameservers: tuple[str, ...] | None = None
    transports: tuple[Transport, ...] | None = None
    retry: RetryPolicy | None = None
    probe: Probe | None = None
    follow: bool | Follow = FOLLOW
    control: bool | str | None = None
    shared: Shared | None = None
    log: str | None = None

    def lookup(self) -> Lookup | None:
        """What finds the servers that are not in the table; None: what ``attach()`` takes by default."""
        if self.nameservers is None and self.transports is None:
            return None
        return DnsLookup(self.nameservers, transports=self.transports)


def is_strict(environment: Mapping[str, str]) -> bool:
    """Whether ``PJFAIL_STRICT`` says that the program is not to run where pjfail cannot attach.

    Raises :class:`BadConfiguration`.
    """
    text = environment.get("PJFAIL_STRICT", "").strip() or "0"
    strict = _bool_of_text(text)
    if not isinstance(strict, bool):
        raise BadConfiguration(f"PJFAIL_STRICT: {text!r} is not valid; write 1 or 0")
    return strict


def read(environment: Mapping[str, str]) -> Configuration:
    """The configuration of a process: its variables, and what they leave open from the file of ``PJFAIL_CONFIG``.

    Raises :class:`BadConfiguration`.
    """
    _refuse_misspelt(environment)
    is_strict(environment)
    found: dict[str, Any] = {}
    if file := environment.get("PJFAIL_CONFIG", "").strip():
        found = _read_file(Path(file))
    for name, (key, parse) in VARIABLES.items():
        if text := environment.get(name, "").strip():
            try:
                found[key] = KEYS[key](parse(text))
            except _Wrong as error:
                where = "".join(f"{each}: " for each in error.below if not str(error).startswith(each))
                raise BadConfiguration(f"{name}: {where}{error}") from None
    return Configuration(**{"servers": {}, **found})


# --- values -----------------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """A value that is not valid, and the keys below its own that lead to what is wrong in it."""

    def __init__(self, what: object, *below: str) -> None:
        super().__init__(what)
        self.below = below


def _servers(value: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise _Wrong(f'{value!r} is not a valid table; write "name" = ["address:port", ...] below [servers]')
    if not value:
        raise _Wrong("no name is listed; list the servers of one, or leave this out")
    for name, servers in value.items():
        if isinstance(servers, dict) and servers:
            rest, listed = next(iter(servers.items()))
            quoted = json.dumps(f"{name}.{rest}")
            raise _Wrong(
                f"TOML reads a name with a dot as two; write it in quotes: {quoted} = {json.dumps(listed)}", name
            )
        try:
            StaticLookup({name: servers})
        except (ValueError, TypeError) as error:
            raise _Wrong(error, name) from None
    return {name: tuple(servers) for name, servers in value.items()}


def _nameservers(value: object) -> tuple[str, ...]:
    addresses = _texts(value, "192.0.2.53")
    try:
        DnsLookup(addresses)
    except ValueError as error:
        raise _Wrong(error) from None
    return addresses


def _transports(value: object) -> tuple[Transport, ...]:
    names = _texts(value, "udp")
    for name in names:
        if name not in TRANSPORTS:
            raise _Wrong(f"{name!r} is not a valid transport; use some of {', '.join(TRANSPORTS)}")
    return tuple(each for name in names for each in TRANSPORTS if each == name)


def _texts(value: object, example: str) -> tuple[str, ...]:
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise _Wrong(f'{value!r} is not a valid list; write ["{example}", ...]')


def _log(value: object) -> str:
    if value not in LEVELS:
        raise _Wrong(f"{value!r} is not a valid level; use one of {', '.join(LEVELS)}")
    return str(value)


def _follow(value: object) -> bool | Follow:
    if isinstance(value, bool):
        return FOLLOW if value else False
    if not isinstance(value, dict):
        raise _Wrong(f"{value!r} is not valid; write true or false, or settings such as watch = 4 below [follow]")
    return _FOLLOW({"network": FOLLOW.network, **value})


def _control(value: object) -> bool | str:
    if isinstance(value, bool) or (isinstance(value, str) and value):
        return value
    raise _Wrong(f"{value!r} is not valid; write true, false or the path of the socket")


def _shared(value: object) -> Shared:
    arguments: dict[str, Any] = value if isinstance(value, dict) else {"url": value}
    known = [each.name for each in fields(Shared)]
    for key, given in arguments.items():
        below = (key,) if isinstance(value, dict) else ()
        if key not in known:
            raise _Wrong(_unknown(key, known), *below)
        try:
            Shared(**{"url": "x", key: given})
        except ValueError as error:
            raise _Wrong(error, *below) from None
    if "url" not in arguments:
        raise _Wrong('url is missing; write url = "PATH" or url = "redis://host:port/db"')
    return Shared(**arguments)


def _keyword_arguments(table: str, kind: type[T]) -> Callable[[object], T]:
    """Reads a table of the arguments of *kind*; ``false`` stands for None, which TOML does not have."""
    known = {field.name: field for field in fields(kind)}

    def read_table(value: object) -> T:
        if not isinstance(value, dict):
            raise _Wrong(f"{value!r} is not a valid table; write its keys below [{table}]")
        arguments: dict[str, Any] = {}
        for key, given in value.items():
            if key not in known:
                raise _Wrong(_unknown(key, known), key)
            if given is False and "None" in str(known[key].type):
                given = None  # noqa: PLW2901
            arguments[key] = tuple(given) if isinstance(given, list) else given
            try:
                kind(**{key: arguments[key]})
            except (ValueError, TypeError) as error:
                raise _Wrong(error, key) from None
        return kind(**arguments)

    return read_table


_FOLLOW = _keyword_arguments("follow", Follow)

KEYS: Mapping[str, Callable[[object], Any]] = {
    "servers": _servers,
    "nameservers": _nameservers,
    "transports": _transports,
    "follow": _follow,
    "retry": _keyword_arguments("retry", RetryPolicy),
    "probe": _keyword_arguments("probe", Probe),
    "shared": _shared,
    "control": _control,
    "log": _log,
}
"""The keys of the file, and what reads the value of each. It raises :class:`_Wrong`."""


# --- variables --------------------------------------------------------------------------------------------------------


def _table_of_text(text: str) -> dict[str, list[str]]:
    """``name=server,server name=...``"""
    table: dict[str, list[str]] = {}
    for part in text.split():
        name, equals, servers = part.partition("=")
        if not (name and equals and servers) or "=" in servers:
            raise _Wrong(f'{part!r} is not valid; write "name=server,server name=server"')
        if name in table:
            raise _Wrong(f"{name} is there twice; write all of its servers after one {name}=")
        table[name] = servers.split(",")
    return table


def _list_of_text(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _bool_of_text(text: str) -> bool | str:
    return {"1": True, "true": True, "0": False, "false": False}.get(text.lower(), text)


def _follow_of_text(text: str) -> object:
    """``1``, ``0``, or ``watch=4,failback=30``, each value as TOML has it; what is not TOML is text."""
    if "=" not in text:
        if not isinstance(switch := _bool_of_text(text), bool):
            raise _Wrong(f"{text!r} is not valid; write 1, 0, or settings such as watch=4,failback=30")
        return switch
    table: dict[str, object] = {}
    for part in _list_of_text(text):
        key, _, value = part.partition("=")
        try:
            table[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[key] = value
    return table


VARIABLES: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "PJFAIL_SERVERS": ("servers", _table_of_text),
    "PJFAIL_NAMESERVERS": ("nameservers", _list_of_text),
    "PJFAIL_FOLLOW": ("follow", _follow_of_text),
    "PJFAIL_SHARED": ("shared", str),
    "PJFAIL_CONTROL": ("control", _bool_of_text),
    "PJFAIL_LOG": ("log", str.lower),
}
"""The variables that precede a key of the file, and how the text of each is read."""

PREFIX = "PJFAIL_"
OTHER_VARIABLES = ("PJFAIL_CONFIG", "PJFAIL_STRICT")


def _refuse_misspelt(environment: Mapping[str, str]) -> None:
    """Raises for a variable that is nearly one of ours; another one may be somebody else's."""
    known = [name.removeprefix(PREFIX) for name in (*VARIABLES, *OTHER_VARIABLES)]
    for name in sorted(environment):
        own = name.removeprefix(PREFIX)
        if own not in (name, *known) and (near := difflib.get_close_matches(own, known, 1, 0.75)):
            raise BadConfiguration(f"{name} is not a known variable; did you mean {PREFIX}{near[0]}?")


# --- the file ---------------------------------------------------------------------------------------------------------


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise BadConfiguration(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise BadConfiguration(f"{path} is not a valid TOML file: {error}") from None
    found: dict[str, Any] = {}
    for key, value in table.items():
        try:
            if key not in KEYS:
                raise _Wrong(_unknown(key, KEYS))
            found[key] = KEYS[key](value)
        except _Wrong as error:
            where = ".".join([key, *error.below])
            line = line_of(text, (key, *error.below))
            raise BadConfiguration(f"{path}, line {line}: {where}: {error}") from None
    return found


def _unknown(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"this is not a known key; {f'did you mean {near[0]}?' if near else 'use one of ' + ', '.join(known)}"


def line_of(text: str, keys: tuple[str, ...]) -> int:
    """The line of a TOML document, from 1, that has the key to which *keys* lead; else of the last that is written out.

    0 for none. Inline tables are written in one line with their key.
    """
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            path = table = _keys_in(line) or table
        else:
            path = (*table, *key) if (key := _key_before_equals(line)) else ()
        for length in range(1, len(path) + 1):
            found.setdefault(path[:length], number)
    return next((found[keys[:length]] for length in range(len(keys), 0, -1) if keys[:length] in found), 0)


def _key_before_equals(line: str) -> tuple[str, ...]:
    """The keys of ``a."b=c" = ...``, whatever follows; none where that is not the beginning of the line."""
    for equals in re.finditer("=", line):
        if found := _keys_in(f"{line[: equals.start()]} = 0"):
            return found
    return ()


def _keys_in(line: str) -> tuple[str, ...]:
    """The keys that a TOML document of one *line* leads to; none where it is not such a document."""
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    keys: list[str] = []
    while isinstance(value, dict) and value:
        ((key, value),) = value.items()
        keys.append(key)
        value = value[0] if isinstance(value, list) and value else value
    return tuple(keys)
