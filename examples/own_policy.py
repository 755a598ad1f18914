"""A policy of one's own, in ten lines: servers of the own site first, of those the fastest, and what is down last.

python examples/own_policy.py sip:example.com 192.0.2.1:5060 198.51.100.1:5060 --site 198.51.100.0/24

It asks the servers, which are given in StaticLookup's table, with an OPTIONS every few seconds, and tells who answered.
"""

import argparse
import ipaddress
import time
from collections.abc import Mapping, Sequence

import pjsua2 as pj

import pjfail


def own_site_first(
    candidates: Sequence[pjfail.Candidate], health: Mapping[pjfail.Server, pjfail.Health]
) -> list[pjfail.Candidate]:
    def place(candidate: pjfail.Candidate) -> tuple[bool, bool, float]:
        known = health[candidate.server]
        elsewhere = ipaddress.ip_address(candidate.server.address) not in options.site
        return not known.usable, elsewhere, known.rtt or 1.0

    return sorted(candidates, key=place)


parser = argparse.ArgumentParser(description="Ask a domain's servers, those of the own site first.")
parser.add_argument("uri", metavar="URI")
parser.add_argument("servers", metavar="ADDRESS:PORT", nargs="+")
parser.add_argument("--site", metavar="NETWORK", type=ipaddress.ip_network, required=True, help="where we are")
parser.add_argument("--every", metavar="SECONDS", type=float, default=2.0, help="from one OPTIONS to the next (2)")
options = parser.parse_args()
try:
    lookup = pjfail.StaticLookup({pjfail.Target.parse(options.uri).host: options.servers})
except (pjfail.BadURI, pjfail.BadServer) as error:
    parser.error(str(error))

endpoint = pj.Endpoint()
endpoint.libCreate()
try:
    config = pj.EpConfig()
    config.logConfig.level = 1
    endpoint.libInit(config)
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
    endpoint.libStart()
    failover = pjfail.attach(lookup=lookup, policy=own_site_first)
    while True:
        try:
            response = failover.request("OPTIONS", options.uri)
            print(f"{response.server} answered {response.code}")
        except pjfail.RequestFailed as error:
            print(error)
        time.sleep(options.every)
except KeyboardInterrupt:
    print("ended")
finally:
    endpoint.libDestroy()
