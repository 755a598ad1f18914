"""Prometheus itself scrapes a program whose servers fail: the alerts fire, and every panel of the dashboard has data.

Grafana is in no package repository that the tests use. Its own SDK, which is made from its schema, reads the dashboard
instead: what it does not know, it drops.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from rig.app import App
from rig.pages import DOCS
from rig.prometheus import Prometheus, rules

from pjfail.testing import SILENT, WELL, Registrar

FIRST, SECOND, SCRAPED, SCRAPING = "127.0.99.1", "127.0.99.2", "127.0.99.3", "127.0.99.4"
ALERTS = DOCS / "snippets" / "alerts.yml"
DASHBOARD = json.loads((DOCS / "snippets" / "grafana-dashboard.json").read_text("utf-8"))

PROGRAM = f"""
    import time
    from contextlib import suppress
    import pjfail
    import pjsua2 as pj
    from prometheus_client import start_http_server
    from rig.prelude import Account, Endpoint, emit

    start_http_server(9100, "{SCRAPED}")
    with Endpoint() as endpoint:
        pjfail.attach(
            servers={{"voip.example": ["{FIRST}", "{SECOND}"]}},
            policy=pjfail.Policy(backoff=lambda failures, random: 1.0),
            listeners=[pjfail.listeners.PrometheusListener()],
        )
        account = Account(endpoint)
        account.open("sip:alice@voip.example", "sip:voip.example")
        pjfail.attached().follow(account, spread=0)
        emit(attached=True)
        while True:
            with suppress(pj.Error):  # a REGISTER of pjfail's is under way
                account.reregister()
            time.sleep(0.3)
"""


def wait_for(what: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.2)


def expressions() -> list[str]:
    """Those of the panels for all jobs, and those of the alerts without the bound that makes them fire."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    alerts = [rule["expr"] for group in rules(ALERTS) for rule in group["rules"]]
    every = {"$job": ".*", "$instance": ".*", "$__rate_interval": "10s"}
    plain = [re.sub(r"\$\w+", lambda name: every[name.group()], each) for each in panels]
    return plain + [re.sub(r" (==|>) [\d.]+$", "", each) for each in alerts]


@pytest.fixture(scope="module")
def scraping() -> Iterator[Prometheus]:
    """Prometheus, after an outage of one server, then of both, and their return."""
    with (
        Registrar(FIRST) as first,
        Registrar(SECOND) as second,
        App(PROGRAM) as program,
        Prometheus(SCRAPING, f"{SCRAPED}:9100", rules(ALERTS)) as prometheus,
    ):
        program.next()
        wait_for(lambda: prometheus.query("pjfail_servers{state='up'} == 2"))
        assert not prometheus.firing()
        first.fault = SILENT
        wait_for(lambda: "SipServerDown" in prometheus.firing())
        assert "NoSipServerIsUp" not in prometheus.firing()
        second.fault = SILENT
        wait_for(lambda: "NoSipServerIsUp" in prometheus.firing())
        first.fault = second.fault = WELL
        wait_for(lambda: not prometheus.firing() & {"SipServerDown", "NoSipServerIsUp"})
        yield prometheus


def test_every_expression_has_data_after_an_outage(scraping: Prometheus) -> None:
    assert [each for each in expressions() if not scraping.query(each)] == []


def test_the_panels_show_the_outage(scraping: Prometheus) -> None:
    panels = {panel["title"]: panel["targets"][0]["expr"] for panel in DASHBOARD["panels"]}

    def shown(title: str) -> float:
        expression = panels[title].replace("$job", ".*").replace("$instance", ".*")
        return sum(float(series["value"][1]) for series in scraping.query(expression))

    assert shown("Failovers in 5 minutes") > 0
    assert shown("Servers down") == 0
    assert shown("Servers up") == 2
    assert shown("Time to recovery") > 0
    wait_for(lambda: shown("Accounts without a server") == 0)


def keys(value: Any, above: str = "") -> set[str]:
    """The paths of all keys in what JSON has."""
    match value:
        case dict():
            found = {f"{above}.{key}" for key in value}
            return found.union(*(keys(each, f"{above}.{key}") for key, each in value.items()))
        case list():
            return set().union(*(keys(each, above) for each in value))
    return set()


def test_the_dashboard_is_what_the_schema_of_grafana_knows() -> None:
    register_default_plugins()
    read = json.loads(json.dumps(Dashboard.from_json(DASHBOARD), cls=JSONEncoder))
    assert keys(DASHBOARD) - keys(read) == {".templating.list.definition"}  # which Grafana itself writes beside "query"
    for before, after in zip(DASHBOARD["panels"], read["panels"], strict=True):
        assert after["type"] == before["type"]
        assert [each["expr"] for each in after["targets"]] == [each["expr"] for each in before["targets"]]
