"""The settings of `python -m pjfail run` and `PJFAIL=1`: their names, their values, and what is said of wrong ones."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail import DnsLookup, Follow, Probe, RetryPolicy
from pjfail.configuration import (
    KEYS,
    OTHER_VARIABLES,
    VARIABLES,
    BadConfiguration,
    Configuration,
    is_strict,
    line_of,
    read,
)

DOCS = Path(__file__).parents[2] / "docs"
WHOLE = """\
nameservers = ["192.0.2.53"]
transports = ["udp", "tls"]
log = "info"

[servers]
"voip.example" = ["192.0.2.1:5060", "tls:192.0.2.2:5061"]

[retry]
codes = [503, 480]
attempts = 3
connection_attempt_delay = false
timeouts.MESSAGE = 1.0

[probe]
interval = 10
accounts = false

[follow]
watch = 4
failback = false
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pjfail.toml"


def read_file(file: Path, text: str | bytes, **variables: str) -> Configuration:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read({"PJFAIL_CONFIG": str(file), **variables})


def complaint(file: Path, text: str | bytes) -> str:
    """What is said of a file, from its name on."""
    with pytest.raises(BadConfiguration) as raised:
        read_file(file, text)
    return str(raised.value).removeprefix(f"{file.parent}/")


def test_nothing_said_is_nothing_chosen() -> None:
    configuration = read({"PJFAIL_SERVERS": "  ", "HOME": "/"})
    assert configuration == Configuration({})
    assert configuration.lookup() is None


def test_every_setting_of_a_file_arrives(file: Path) -> None:
    configuration = read_file(file, WHOLE)
    assert configuration.servers == {"voip.example": ("192.0.2.1:5060", "tls:192.0.2.2:5061")}
    assert configuration.nameservers == ("192.0.2.53",)
    assert configuration.transports == ("udp", "tls")
    assert configuration.retry == RetryPolicy(
        timeouts={"MESSAGE": 1.0}, codes=(503, 480), attempts=3, connection_attempt_delay=None
    )
    assert configuration.probe == Probe(interval=10, accounts=None)
    assert configuration.follow == Follow(watch=4, failback=None, network=True)
    assert configuration.log == "info"


def test_what_is_not_in_the_table_is_found_by_the_dns(file: Path) -> None:
    assert isinstance(read_file(file, WHOLE).lookup(), DnsLookup)
    assert isinstance(read({"PJFAIL_NAMESERVERS": "192.0.2.53"}).lookup(), DnsLookup)


def test_a_variable_precedes_the_file(file: Path) -> None:
    configuration = read_file(file, WHOLE, PJFAIL_SERVERS="pbx.example=192.0.2.9:5060", PJFAIL_LOG="WARNING")
    assert configuration.servers == {"pbx.example": ("192.0.2.9:5060",)}
    assert configuration.log == "warning"
    assert configuration.nameservers == ("192.0.2.53",)


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z]{1,5}){0,2}", fullmatch=True)
SERVERS = st.builds(
    lambda scheme, last, port: f"{scheme}192.0.2.{last}:{port}",
    st.sampled_from(["", "udp:", "tcp:", "tls:"]),
    st.integers(0, 255),
    st.integers(1, 65535),
)


@given(st.dictionaries(NAMES, st.lists(SERVERS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_table_of_servers_fits_in_a_variable(table: dict[str, list[str]]) -> None:
    text = " ".join(f"{name}={','.join(servers)}" for name, servers in table.items())
    assert read({"PJFAIL_SERVERS": text}).servers == {name: tuple(servers) for name, servers in table.items()}


@given(st.text(max_size=60))
def test_any_text_in_a_variable_is_read_or_refused_in_words(text: str) -> None:
    for name in VARIABLES:
        said = ""
        try:
            read({name: text})
        except BadConfiguration as error:
            said = str(error)
        assert said == "" or said.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("PJFAIL_SERVERS", "192.0.2.1", "'192.0.2.1' is not valid; write \"name=server,server name=server\""),
        ("PJFAIL_SERVERS", "a=192.0.2.1:1 a=192.0.2.2:1", "a is there twice; write all of its servers after one a="),
        ("PJFAIL_SERVERS", "a=192.0.2.1:99999", "'99999' is not a valid port number; write 1 to 65535"),
        ("PJFAIL_NAMESERVERS", "here", "'here' is not a valid name server"),
        ("PJFAIL_LOG", "loud", "'loud' is not a valid level; use one of debug, info, warning, error"),
        ("PJFAIL_SERVERS", "a=192.0.2.1;b=192.0.2.2", '2.2\' is not valid; write "name=server,server name=server"'),
        ("PJFAIL_FOLLOW", "maybe", "'maybe' is not valid; write 1, 0, or settings such as watch=4,failback=30"),
        ("PJFAIL_FOLLOW", "watch=soon", "watch is 'soon'; give seconds, more than 0, or None for never"),
        ("PJFAIL_FOLLOW", "watsch=4", "PJFAIL_FOLLOW: watsch: this is not a known key; did you mean watch?"),
        (
            "PJFAIL_SHARED",
            "http://192.0.2.3",
            "http:// is not known; write redis://host:port/db, rediss:// for TLS, or",
        ),
        ("PJFAIL_SHARED", "redis://192.0.2.3:x", "the address of Redis is not a valid URL"),
        ("PJFAIL_STRICT", "maybe", "PJFAIL_STRICT: 'maybe' is not valid; write 1 or 0"),
        ("PJFAIL_SERVER", "a=192.0.2.1:1", "is not a known variable; did you mean PJFAIL_SERVERS?"),
        ("PJFAIL_CONFIG", "/nowhere/pjfail.toml", "/nowhere/pjfail.toml cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_variable_is_told(variable: str, text: str, said: str) -> None:
    with pytest.raises(BadConfiguration) as raised:
        read({variable: text})
    assert said in str(raised.value)
    assert variable in str(raised.value) or variable == "PJFAIL_CONFIG"


@pytest.mark.parametrize(
    ("text", "strict"), [("", False), ("0", False), ("False", False), ("1", True), ("true", True), (" 1 ", True)]
)
def test_what_is_strict(text: str, strict: bool) -> None:
    assert is_strict({"PJFAIL_STRICT": text}) is strict


@pytest.mark.parametrize(
    ("text", "follow"),
    [
        ("1", Follow(network=True)),
        ("0", False),
        ("watch=4", Follow(watch=4, network=True)),
        ("watch=4,failback=false, spread=0.5", Follow(watch=4, failback=None, spread=0.5, network=True)),
        ("standby=true calls=refresh network=false", Follow(standby=True, calls="refresh", network=False)),
    ],
)
def test_how_accounts_are_followed_fits_in_a_variable(text: str, follow: bool | Follow) -> None:
    assert read({"PJFAIL_FOLLOW": text}).follow == follow


def test_variables_of_somebody_else_are_left_alone() -> None:
    assert read({"PJFAIL_TEST_HOSTS": "x", "PJFAILURE": "y", "PJFAIL_": "z"}) == Configuration({})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nameserver = []", "pjfail.toml, line 1: nameserver: this is not a known key; did you mean nameservers?"),
        ("\n\n[retries]\nattempts = 3", "pjfail.toml, line 3: retries: this is not a known key; did you mean retry?"),
        (
            "x = 1",
            "pjfail.toml, line 1: x: this is not a known key; use one of servers, nameservers, transports, follow",
        ),
        (
            "[retry]\ncodes=[480]\n\nattempt = 3",
            "line 4: retry.attempt: this is not a known key; did you mean attempts?",
        ),
        ("[retry]\nattempts = 0", "line 2: retry.attempts: attempts is 0; give a whole number from 1 to 8"),
        ('[retry]\nport_check = "off"', "line 2: retry.port_check: port_check is 'off'; give True or False"),
        ("retry = { codes = [401] }", "line 1: retry.codes: 401 is not a valid code to fail over at"),
        ("[retry.timeouts]\nACK = 1", "line 1: retry.timeouts: 'ACK' is not a valid method in timeouts"),
        ("retry = false", "line 1: retry: False is not a valid table; write its keys below [retry]"),
        ("probe = 4", "line 1: probe: 4 is not a valid table; write its keys below [probe]"),
        ("[probe]\njitter = 2", "line 2: probe.jitter: "),
        ("[servers]", "line 1: servers: no name is listed; list the servers of one, or leave this out"),
        ("servers = []", 'line 1: servers: [] is not a valid table; write "name" = '),
        ('[servers]\na = ["192.0.2.1:1"]\nb = []', "line 3: servers.b: b: no server is listed"),
        ('[servers]\na = "192.0.2.1:1"', "line 2: servers.a: a: '192.0.2.1:1' is one server; write a list of servers"),
        (
            '[servers]\nvoip.example = ["192.0.2.1"]',
            'line 2: servers.voip: TOML reads a name with a dot as two; write it in quotes: "voip.example" = ["192',
        ),
        ('[servers]\n"a.example" = 3', "line 2: servers.a.example: a.example: 3 is not a valid list of servers"),
        (
            'nameservers = "192.0.2.53"',
            "line 1: nameservers: '192.0.2.53' is not a valid list; write [\"192.0.2.53\", ...]",
        ),
        ("nameservers = []", "line 1: nameservers: [] is not a valid list"),
        ('log = "info"\ntransports = ["sctp"]', "line 2: transports: 'sctp' is not a valid transport; use some of udp"),
        ("follow = 1", "line 1: follow: 1 is not valid; write true or false"),
        (
            'shared = "http://x"',
            "line 1: shared: http:// is not known; write redis://host:port/db, rediss:// for TLS, or",
        ),
        ("shared = 3", "line 1: shared: 3 is not a valid place; give a path, or"),
        ("[shared]\ntrust = 3", "line 1: shared: url is missing; write url ="),
        ("[shared]\nurl = 'x'\nname = 3", "line 3: shared.name: this is not a known key; did you mean namespace?"),
        (
            '[shared]\nurl = "redis://x"\ntrust = 0',
            "line 3: shared.trust: trust is 0; give a whole number from 1 on, or None",
        ),
        ("a = ", "pjfail.toml is not a valid TOML file: Invalid value (at "),
        (b"log = '\xff'", "pjfail.toml is not a valid TOML file: 'utf-8' codec can't decode"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(file: Path, text: str | bytes, said: str) -> None:
    assert said in complaint(file, text)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="cannot be read: Is a directory"):
        read({"PJFAIL_CONFIG": str(tmp_path)})


@given(st.integers(0, 30), st.sampled_from(["", "retry", "probe"]), st.from_regex(r"[a-z]{3,12}", fullmatch=True))
def test_a_wrong_key_anywhere_is_told_with_its_line(place: int, table: str, key: str) -> None:
    """Comments and the right keys of other tables stand around it."""
    own = {"": set(KEYS), "retry": {each.name for each in fields(RetryPolicy)}, "probe": {*Probe.__slots__}}[table]
    if key in own:
        return
    lines = ['log = "info"  # x = [', "# log = 1", ""]
    lines += [f"[{table}]"] * bool(table) + ["# what follows"] * place
    lines.append(f"{key} = 1")
    assert line_of("\n".join(lines), (table, key) if table else (key,)) == len(lines)


def test_what_is_written_in_one_line_with_its_key_has_the_line_of_that_key() -> None:
    text = '# nothing\nservers = { "a.b" = ["192.0.2.1:1"] }\n"x=y".z = 1\n[[w]]\nq = [\n"p = 1",\n]\np = 2'
    assert line_of(text, ("servers", "a.b")) == 2
    assert line_of(text, ("x=y", "z")) == 3
    assert line_of(text, ("w", "q")) == 5
    assert line_of(text, ("w", "p")) == 8
    assert line_of(text, ("missing",)) == 0


def test_every_setting_is_documented() -> None:
    page = (DOCS / "howto" / "run.md").read_text("utf-8")
    rows = set(re.findall(r"^\| `([^`]+)` ", page, re.MULTILINE))
    kinds: tuple[tuple[str, Any], ...] = (("retry", RetryPolicy), ("probe", Probe), ("follow", Follow))
    tables = {f"{table}.{each.name}" for table, kind in kinds for each in fields(kind)}
    assert rows == {*KEYS, *VARIABLES, *OTHER_VARIABLES, "PJFAIL", *tables} - {"retry", "probe"}


def test_the_file_on_the_page_is_valid(file: Path) -> None:
    page = (DOCS / "howto" / "run.md").read_text("utf-8")
    examples = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        read_file(file, example)


def test_the_variables_on_the_page_are_valid() -> None:
    page = (DOCS / "howto" / "run.md").read_text("utf-8")
    values = re.findall(r'PJFAIL_SERVERS(?:`.*`)?="?([^"]+)"', page)
    assert len(values) == 5
    for value in values:
        (servers,) = read({"PJFAIL_SERVERS": value}).servers.values()
        assert servers == ("192.0.2.1:5060", "192.0.2.2:5060")
