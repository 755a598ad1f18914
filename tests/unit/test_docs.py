"""The documentation: its code is type-checked, its snippets are run, and its links are checked."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from rig.pages import DOCS, README, ROOT, pages_with_code, program

import pjfail
import pjfail.testing
from pjfail import Candidate, Health, LookupFailed, Server, State, Target, UnknownTarget
from pjfail.bridge.counts import Counters, RoundTrips
from pjfail.bridge.host import known_layouts
from pjfail.cli.main import make_parser
from pjfail.listeners import prometheus
from pjfail.shared.sharing import SharedStatus

SNIPPETS = DOCS / "snippets"
TARGET = Target("voip.example")


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- code -------------------------------------------------------------------------------------------------------------


def typed(files: Iterable[Path], *options: str) -> str:
    """What mypy has against *files*, "" for nothing."""
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache" / "docs")]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", *settings, *options, *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(ROOT)},
    )
    return checked.stdout + checked.stderr


@pytest.mark.slow
def test_the_code_in_the_pages_is_well_typed(tmp_path: Path) -> None:
    for page in pages_with_code():
        (tmp_path / f"{page.stem.replace('-', '_')}_page.py").write_text(program(page))
    options = ["--allow-untyped-defs", "--allow-untyped-calls", "--allow-incomplete-defs", "--allow-subclassing-any"]
    assert typed(tmp_path.glob("*.py"), *options) == ""


@pytest.mark.slow
def test_the_snippets_are_well_typed() -> None:
    assert typed(SNIPPETS.glob("*.py"), "--allow-subclassing-any") == ""


def test_the_order_of_the_policy_page_passes_the_test_of_that_page() -> None:
    names: dict[str, object] = {}
    exec(f"{program(DOCS / 'howto' / 'policy.md')}\n\ntest_a_server_that_is_down_comes_last()", names)
    near, far = names["near"], names["far"]
    assert isinstance(near, Server)
    assert isinstance(far, Server)
    order_of = names["fastest_first"]
    assert callable(order_of)
    measured = {near: Health(State.UP, rtt=0.1), far: Health(State.UP, rtt=0.05)}
    same = [Candidate(near, "near"), Candidate(far, "far")]
    assert [each.server for each in order_of(same, measured)] == [far, near]


# --- the reference ----------------------------------------------------------------------------------------------------


def test_the_reference_has_every_public_name() -> None:
    pages = "\n".join(page.read_text("utf-8") for page in sorted((DOCS / "reference").glob("*.rst")))
    told = set(re.findall(r"^\.\. (?:auto\w+|data|module):: (?:pjfail\.)?([\w.]+)", pages, re.MULTILINE))
    public = {*pjfail.__all__, *(f"listeners.{name}" for name in pjfail.listeners.__all__)}
    faults = {name for name, value in vars(pjfail.testing).items() if isinstance(value, pjfail.testing.Fault)}
    public |= {f"testing.{name}" for name in {*pjfail.testing.__all__} - faults}
    own = (each for each in vars(pjfail.events).values() if getattr(each, "__module__", "") == "pjfail.events")
    public |= {f"events.{each.__name__}" for each in own if not each.__name__.startswith("_")}
    assert sorted(public - told - {"__version__"}) == []


def test_the_reference_has_every_command() -> None:
    page = (DOCS / "reference" / "commands.rst").read_text("utf-8")
    commands = make_parser()._subparsers
    assert commands is not None
    (choices,) = (action.choices for action in commands._actions if isinstance(action.choices, dict))
    assert re.findall(r"^\.\. help:: (\w+)$", page, re.MULTILINE) == list(choices)


def test_the_versions_of_pjsip_that_are_told_of_are_those_that_are_known() -> None:
    page = (DOCS / "hosts.md").read_text("utf-8")
    rows = re.findall(r"^\| (2\.\d\S*?)(?:, (\S+))?,?(?: [^|]*)?\| yes", page, re.MULTILINE)
    told = {version for row in rows for version in row if re.match(r"2\.\d", version)}
    known = {version for name in known_layouts() for version in name.split(" to ")}
    assert told == known


# --- lookups ----------------------------------------------------------------------------------------------------------


def test_the_lookup_in_a_database(tmp_path: Path) -> None:
    path = tmp_path / "servers.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE servers (domain, address, port, transport, priority, weight)")
        database.execute("INSERT INTO servers VALUES ('voip.example', '192.0.2.1', 5060, 'udp', 10, 60)")
        database.execute("INSERT INTO servers VALUES ('voip.example', '192.0.2.2', 5061, 'tls', 20, 0)")
    lookup = loaded(SNIPPETS / "database_lookup.py").DatabaseLookup(str(path))
    found = asyncio.run(lookup.lookup(TARGET))
    assert [(str(each.server), each.priority, each.weight) for each in found] == [
        ("udp:192.0.2.1:5060", 10, 60),
        ("tls:192.0.2.2:5061", 20, 0),
    ]
    secure = asyncio.run(lookup.lookup(Target.parse("sips:voip.example")))
    assert [str(each.server) for each in secure] == ["tls:192.0.2.2:5061"]
    with pytest.raises(UnknownTarget):
        asyncio.run(lookup.lookup(Target("other.example")))


class Consul(HTTPServer):
    """An agent that knows one service."""

    def __init__(self, instances: list[object]) -> None:
        self.answer = json.dumps(instances).encode()
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), ConsulAnswers)


class ConsulAnswers(BaseHTTPRequestHandler):
    server: Consul

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def consul() -> Iterator[Consul]:
    instances: list[object] = [
        {"Node": {"Address": "192.0.2.9"}, "Service": {"Address": own, "Port": port, "Weights": {"Passing": weight}}}
        for own, port, weight in (("", 5060, 3), ("192.0.2.2", 5062, 1))
    ]
    with Consul(instances) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_the_lookup_in_consul(consul: Consul) -> None:
    kind = loaded(SNIPPETS / "consul_lookup.py").ConsulLookup
    lookup = kind("voip.example", "sip", f"http://127.0.0.1:{consul.server_port}")
    found = asyncio.run(lookup.lookup(TARGET))
    assert [(str(each.server), each.weight) for each in found] == [("udp:192.0.2.9:5060", 3), ("udp:192.0.2.2:5062", 1)]
    assert consul.asked == ["/v1/health/service/sip?passing=true"]
    with pytest.raises(UnknownTarget):
        asyncio.run(lookup.lookup(Target("other.example")))
    consul.answer = b"[]"
    with pytest.raises(LookupFailed, match="no instance passes"):
        asyncio.run(lookup.lookup(TARGET))
    consul.answer = b"<html>"
    with pytest.raises(LookupFailed) as raised:
        asyncio.run(lookup.lookup(TARGET))
    assert raised.value.temporary
    silent = kind("voip.example", "sip", "http://127.0.0.1:1")
    with pytest.raises(LookupFailed):
        asyncio.run(silent.lookup(TARGET))


# --- metrics ----------------------------------------------------------------------------------------------------------


class Attached:
    """What a scrape reads of a `Failover`."""

    attached = True

    def counters(self) -> Counters:
        return Counters(*[0] * len(Counters.__dataclass_fields__))

    def round_trips(self) -> dict[str, RoundTrips]:
        return {"udp": RoundTrips((0.1,), (0, 0), 0.0)}

    def servers(self) -> dict[Server, Health]:
        return {Server("192.0.2.1", 5060): Health()}

    def accounts(self) -> dict[int, Server | None]:
        return {0: None}

    def shared(self) -> SharedStatus:
        return SharedStatus("x.db", True, 0, 0, 0, 0, 0, 0, 0, 0)


def metrics_and_labels() -> dict[str, set[str]]:
    """The labels of each metric that there is, by its name; of those that count events, the labels in the page."""
    registry = CollectorRegistry()
    listener = prometheus.PrometheusListener(registry)
    attached = Attached()
    listener.on_attach(attached)  # type: ignore[arg-type]
    page = (DOCS / "howto" / "metrics.md").read_text("utf-8")
    labels = {name: set(re.split(r", ", told)) for name, told in re.findall(r"`(pjfail_\w+)\{([\w, ]+)\}`", page)}
    there = {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}
    return {name: labels.get(name, set()) for name in there}


def expressions() -> list[str]:
    """Those of the alerts and of the dashboard's panels and variables."""
    rules = yaml.safe_load((SNIPPETS / "alerts.yml").read_text("utf-8"))["groups"][0]["rules"]
    panels = dashboard()["panels"]
    return [rule["expr"] for rule in rules] + [target["expr"] for panel in panels for target in panel["targets"]]


def dashboard() -> dict[str, Any]:
    return dict(json.loads((SNIPPETS / "grafana-dashboard.json").read_text("utf-8")))


def test_the_metrics_that_are_told_of_are_those_that_there_are() -> None:
    told = set(re.findall(r"`(pjfail_\w+)", (DOCS / "howto" / "metrics.md").read_text("utf-8")))
    assert told == set(metrics_and_labels())


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_metrics_and_labels_that_there_are(expression: str) -> None:
    there = metrics_and_labels()
    names = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bpjfail_\w+", expression)}
    assert names
    assert names <= set(there)
    scraped = {"job", "instance", "le"}
    used = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", group)}
    used |= set(re.findall(r"(\w+)=~?\"", expression))
    assert used - scraped <= set().union(*(there[name] for name in names))


def test_every_panel_of_the_dashboard_answers_a_question() -> None:
    board = dashboard()
    variables = {variable["name"] for variable in board["templating"]["list"]}
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert "?" in panel["description"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board))) - {"__all", "__rate_interval"}
    assert used == variables
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="other.html#there">', ""),
        ('<a href="https://example.com/">', ""),
        ('<a href="missing.html">', "page.html: missing.html leads nowhere"),
        ('<a href="other.html#gone">', "page.html: other.html#gone has no such anchor"),
        ('<a href="#gone">', "page.html: #gone has no such anchor"),
        ('<img src="gone.png">', "page.html: gone.png leads nowhere"),
        ('<script src="https://cdn.example/x.js">', "page.html fetches https://cdn.example/x.js from the network"),
        ('<link rel="icon" href="//cdn.example/x.ico">', "page.html fetches //cdn.example/x.ico from the network"),
    ],
)
def test_a_link_that_leads_nowhere_is_told(tmp_path: Path, body: str, problem: str) -> None:
    (tmp_path / "page.html").write_text(body)
    (tmp_path / "other.html").write_text('<h1 id="there">')
    check = loaded(ROOT / "tools" / "check_docs.py")
    assert check.problems(tmp_path) == ([problem] if problem else [])


def test_a_style_that_comes_from_the_network_is_told(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("")
    (tmp_path / "style.css").write_text('@import url("https://fonts.example/x.css");')
    assert loaded(ROOT / "tools" / "check_docs.py").problems(tmp_path) == [
        "style.css fetches https://fonts.example/x.css from the network"
    ]


def test_the_links_of_the_readme_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README.read_text("utf-8")) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
