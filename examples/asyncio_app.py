"""An asyncio program: pjsua2 in its own threads, pjfail's events in the loop, and servers from a lookup of one's own.

python examples/asyncio_app.py alice@example.com --servers servers.json

servers.json says {"example.com": ["192.0.2.1:5060", "192.0.2.2:5060"]}, and may change at any time: it is read again
whenever pjfail asks. It could as well be a database or Consul: a lookup is any object with this one async method.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pjsua2 as pj

import pjfail
from pjfail.listeners import QueueListener


class FileLookup:
    def __init__(self, path: Path) -> None:
        self.path = path

    async def lookup(self, target: pjfail.Target) -> Sequence[pjfail.Candidate]:
        """Runs in pjfail's own loop, on its own thread."""
        try:
            table = pjfail.StaticLookup(json.loads(await asyncio.to_thread(self.path.read_text)), ttl=2)
        except (OSError, ValueError) as error:  # temporary: what it said before still holds
            raise pjfail.LookupFailed(f"{self.path}: {error}", temporary=True) from error
        return await table.lookup(target)


class Account(pj.Account):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        """Runs on a thread of pjsip's."""
        self.loop.call_soon_threadsafe(print, "registration:", prm.code, prm.reason)


async def tell(listener: QueueListener) -> None:
    async for event in listener:
        match event:
            case pjfail.events.ServerDown(server=server, health=health):
                print(f"{server} is down: {health.reason}")
            case pjfail.events.ServerUp(server=server):
                print(f"{server} is up")


async def ask(failover: pjfail.Failover, uri: str, server: pjfail.Server) -> None:
    try:
        response = await failover.request_async("OPTIONS", uri, server=server, timeout=2)
        print(f"{server} answered {response.code} in {response.rtt * 1000:.0f} ms")
    except pjfail.RequestFailed as error:
        print(error)


async def ask_all(failover: pjfail.Failover, uri: str) -> None:
    try:
        plan = await asyncio.to_thread(failover.resolve, uri)  # it waits, so it must not run in the loop
        await asyncio.gather(*(ask(failover, uri, server) for server in plan.servers))
    except pjfail.LookupFailed as error:
        print(error)


async def main(domain: str, options: argparse.Namespace) -> None:
    uri = f"sip:{domain}"
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    try:
        config = pj.EpConfig()
        config.logConfig.level = 1
        endpoint.libInit(config)
        endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
        endpoint.libStart()
        listener = QueueListener()
        failover = pjfail.attach(lookup=FileLookup(options.servers), listeners=[listener])
        account_config = pj.AccountConfig()
        account_config.idUri = f"sip:{options.address}"
        account_config.regConfig.registrarUri = uri
        account = Account(asyncio.get_running_loop())
        account.create(account_config)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(tell(listener))
            while True:
                await ask_all(failover, uri)
                await asyncio.sleep(options.every)
    finally:
        endpoint.libDestroy()


parser = argparse.ArgumentParser(description="Stay registered, and ask all servers how they do.")
parser.add_argument("address", metavar="USER@DOMAIN")
parser.add_argument("--servers", metavar="JSON", type=Path, required=True, help="the servers of DOMAIN")
parser.add_argument("--every", metavar="SECONDS", type=float, default=10.0, help="ask so often (10)")
options = parser.parse_args()
if not all(options.address.partition("@")):
    parser.error(f"{options.address!r} is not a valid USER@DOMAIN")
domain = options.address.partition("@")[2]
try:
    asyncio.run(FileLookup(options.servers).lookup(pjfail.Target(domain)))
except pjfail.LookupFailed as error:
    parser.error(str(error))
try:
    asyncio.run(main(domain, options))
except KeyboardInterrupt:
    print("ended")
