"""Prometheus, from its Debian package, that scrapes one program every second."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from .daemon import Daemon, find


class Prometheus(Daemon):
    """Listens at *address*, port 9090, scrapes *target* ("address:port"), and has the alerts of the groups *groups*."""

    def __init__(self, address: str, target: str, groups: list[dict[str, Any]]) -> None:
        super().__init__("prometheus")
        self.address = address
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "voip", "static_configs": [{"targets": [target]}]}],
        }
        (self.run / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
        (self.run / "prometheus.yml").write_text(yaml.safe_dump(configuration))

    def __enter__(self) -> Prometheus:
        command = [
            find("prometheus"),
            f"--config.file={self.run}/prometheus.yml",
            f"--storage.tsdb.path={self.run}/data",
            f"--web.listen-address={self.address}:9090",
        ]
        self.start(command, self._answers, timeout=60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that *expression* has now."""
        return list(self._get("query", query=expression)["result"])

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {each["labels"]["alertname"] for each in self._get("alerts")["alerts"] if each["state"] == "firing"}

    def _get(self, what: str, **arguments: str) -> Any:
        with urlopen(f"http://{self.address}:9090/api/v1/{what}?{urlencode(arguments)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, 9090), 0.5):
                return True
        except OSError:
            return False


def rules(path: Path) -> list[dict[str, Any]]:
    """The groups of a file of alerts, which fire at once here: none waits (`for`)."""
    groups: list[dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))["groups"]
    return [
        {**group, "rules": [{key: rule[key] for key in rule if key != "for"} for rule in group["rules"]]}
        for group in groups
    ]
