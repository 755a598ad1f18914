"""Stays registered and sends a message every two seconds: a plain pjsua2 program, and one line of pjfail.

python examples/keep_registered.py alice@example.com --nameserver 192.0.2.53
"""

import argparse
import logging
import time

import pjsua2 as pj

import pjfail

parser = argparse.ArgumentParser(description="Stay registered, and send a message every two seconds.")
parser.add_argument("address", metavar="USER@DOMAIN")
parser.add_argument("--nameserver", metavar="IP", required=True, help="it knows the SRV records of DOMAIN")
parser.add_argument("--stock", action="store_true", help="pjsip as it is, without pjfail")
options = parser.parse_args()
domain = options.address.partition("@")[2]
logging.basicConfig(level=logging.INFO)

under_way: dict[str, float] = {}  # method: when it was sent


def sent(method: str) -> None:
    under_way[method] = time.monotonic()
    print(method, "...", flush=True)


def ended(method: str, code: int, reason: str) -> None:
    now = time.monotonic()
    print(f"{method} {code} {reason} after {now - under_way.pop(method, now):.3f} s", flush=True)


class Account(pj.Account):
    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        ended("REGISTER", prm.code, prm.reason)

    def onInstantMessageStatus(self, prm: pj.OnInstantMessageStatusParam) -> None:
        ended("MESSAGE", prm.code, prm.reason)


endpoint = pj.Endpoint()
endpoint.libCreate()
config = pj.EpConfig()
config.uaConfig.nameserver.append(options.nameserver)
config.logConfig.level = 1
endpoint.libInit(config)
endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
endpoint.libStart()
if not options.stock:
    pjfail.attach(lookup=pjfail.DnsLookup(nameservers=[options.nameserver]))

account_config = pj.AccountConfig()
account_config.idUri = f"sip:{options.address}"
account_config.regConfig.registrarUri = f"sip:{domain}"
account_config.regConfig.retryIntervalSec = 0  # the loop below registers anew, and nobody else
account_config.natConfig.contactRewriteUse = 0
account = Account()
sent("REGISTER")
account.create(account_config)
buddy_config = pj.BuddyConfig()
buddy_config.uri = f"sip:echo@{domain}"
buddy = pj.Buddy()
buddy.create(account, buddy_config)
message = pj.SendInstantMessageParam()
message.content = "still here"

try:
    while True:
        time.sleep(1)
        if "MESSAGE" not in under_way:
            sent("MESSAGE")
            buddy.sendInstantMessage(message)
        time.sleep(1)
        if "REGISTER" not in under_way:
            sent("REGISTER")
            account.setRegistration(True)
except KeyboardInterrupt:
    endpoint.libDestroy()
