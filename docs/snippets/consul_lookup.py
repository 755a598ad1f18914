"""The servers of a domain, from a Consul agent: its healthy instances of one service."""

import asyncio
import json
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pjfail


class ConsulLookup:
    """Knows one domain, whose servers are the passing instances of *service* at the agent *url*."""

    def __init__(self, domain: str, service: str, url: str = "http://127.0.0.1:8500") -> None:
        self._domain = domain
        self._url = f"{url}/v1/health/service/{service}?passing=true"

    def _instances(self) -> list[dict[str, Any]]:
        with urlopen(self._url, timeout=2) as response:
            instances: list[dict[str, Any]] = json.load(response)
        return instances

    async def lookup(self, target: pjfail.Target) -> list[pjfail.Candidate]:
        if target.host != self._domain:
            raise pjfail.UnknownTarget(f"{target.host} is not {self._domain}")
        try:
            instances = await asyncio.to_thread(self._instances)
        except (URLError, TimeoutError, ValueError) as error:
            raise pjfail.LookupFailed(f"{target}: {self._url}: {error}", temporary=True) from error
        if not instances:
            raise pjfail.LookupFailed(f"{target}: no instance passes its checks", temporary=True)
        transport = "tls" if target.secure else target.transport or "udp"
        found = []
        for instance in instances:
            service = instance["Service"]
            address = service["Address"] or instance["Node"]["Address"]
            server = pjfail.Server(address, service["Port"], transport)
            found.append(pjfail.Candidate(server, address, weight=service["Weights"]["Passing"], ttl=10))
        return found
