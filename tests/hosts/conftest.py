"""Each test of this folder in each host; and, once they have run, a table of what they have shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rig.hosts import known

THERE, ABSENT = known()
# Its names are not SWIG's: it has programs and tests of its own. It does not poll.
PYBIND11 = [host for host in THERE if host.name == "pybind11" and host.mode == "threads"]
SWIG = [host for host in THERE if host.name != "pybind11"]

collect_ignore = [] if PYBIND11 else ["test_pybind11.py"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" in metafunc.fixturenames:
        hosts = PYBIND11 if metafunc.module.__name__ == "test_pybind11" else SWIG
        metafunc.parametrize("host", hosts, ids=str, scope="session")


@pytest.fixture(autouse=True)
def _place_in_the_table(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    record_property("host", str(request.getfixturevalue("host")))
    record_property("cell", request.function.__name__.removeprefix("test_").replace("_", " "))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    cells: dict[str, dict[str, str]] = {}
    facts: dict[str, dict[str, object]] = {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        properties = dict(getattr(report, "user_properties", ()))
        if "cell" not in properties:
            continue
        row = cells.setdefault(properties["host"], {})
        if report.failed or properties["cell"] not in row:
            row[properties["cell"]] = "FAILED" if report.failed else "ok"
        facts[properties["host"]] = facts.get(properties["host"], {}) | properties.get("facts", {})
    if not cells:
        return
    said = {key: None for each in facts.values() for key in each if key not in ("extension", "sha256")}
    columns = {cell: None for row in cells.values() for cell in row}
    table = [["host", *said, *columns]]
    for host, row in cells.items():
        table.append([host, *(str(facts[host].get(key, "")) for key in said), *(row.get(cell, "") for cell in columns)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    terminalreporter.section("hosts")
    for line in table:
        terminalreporter.line("  ".join(map(str.ljust, line, widths)).rstrip())
    for absent in ABSENT:
        terminalreporter.line(f"{absent.name}: not there: {absent.why}")
    extensions: dict[tuple[object, object], list[str]] = {}
    for host, each in facts.items():
        if "extension" in each:
            extensions.setdefault((each["extension"], each["sha256"]), []).append(host)
    for (extension, sha256), hosts in extensions.items():
        terminalreporter.line(f"one extension in {'; '.join(hosts)}: {extension}, SHA-256 {sha256}")
