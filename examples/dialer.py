"""A dialer: calls one number after the other through a trunk of several servers, some of which may be out of order.

python examples/dialer.py --trunk 192.0.2.1:5060 --trunk 192.0.2.2:5060 --caller 100@trunk.example 200 201 202

The trunk's servers stand in no DNS: StaticLookup has them, the first one preferred. An INVITE that a server leaves
unanswered for 1.5 s goes to the next one too, and the calls after it go there directly. The exit status is 0 when all
numbers answered.
"""

import argparse
import logging
import queue
import sys
import time

import pjsua2 as pj

import pjfail


class Call(pj.Call):
    def __init__(self, account: pj.Account) -> None:
        super().__init__(account)
        self.states: queue.SimpleQueue[int] = queue.SimpleQueue()

    def onCallState(self, _: pj.OnCallStateParam) -> None:
        self.states.put(self.getInfo().state)

    def wait(self, *states: int) -> int:
        """Waits for one of *states*."""
        while (state := self.states.get()) not in states:
            pass
        return state


def dial(account: pj.Account, number: str) -> bool:
    """Calls *number*, hangs up again, and says whether it answered."""
    call = Call(account)
    begun = time.monotonic()
    call.makeCall(f"sip:{number}@{domain}", pj.CallOpParam(True))
    state = call.wait(pj.PJSIP_INV_STATE_CONFIRMED, pj.PJSIP_INV_STATE_DISCONNECTED)
    answered = state == pj.PJSIP_INV_STATE_CONFIRMED
    print(f"{number} {'answered' if answered else 'failed'} after {time.monotonic() - begun:.1f} s")
    if answered:
        time.sleep(options.talk)
        call.hangup(pj.CallOpParam())
        call.wait(pj.PJSIP_INV_STATE_DISCONNECTED)
    return answered


parser = argparse.ArgumentParser(description="Call numbers through a trunk.")
parser.add_argument("numbers", metavar="NUMBER", nargs="+")
parser.add_argument("--trunk", metavar="ADDRESS:PORT", action="append", required=True, help="a server; may be repeated")
parser.add_argument("--caller", metavar="USER@DOMAIN", required=True, help="who calls; DOMAIN is the trunk's")
parser.add_argument("--password", help="where the trunk asks for one")
parser.add_argument("--talk", metavar="SECONDS", type=float, default=5.0, help="for so long (5)")
options = parser.parse_args()
if not all(options.caller.partition("@")):
    parser.error(f"{options.caller!r} is not a valid USER@DOMAIN")
domain = options.caller.partition("@")[2]
try:
    lookup = pjfail.StaticLookup({domain: options.trunk})
except pjfail.BadServer as error:
    parser.error(str(error))
logging.basicConfig(level=logging.INFO, format="%(message)s")  # pjfail tells there what it does

endpoint = pj.Endpoint()
endpoint.libCreate()
try:
    config = pj.EpConfig()
    config.medConfig.clockRate = 8000  # that of a telephone, so that nothing needs to be resampled
    config.logConfig.level = 1
    endpoint.libInit(config)
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    pjfail.attach(lookup=lookup)

    account_config = pj.AccountConfig()
    account_config.idUri = f"sip:{options.caller}"
    if options.password:
        user = options.caller.partition("@")[0]
        account_config.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", user, 0, options.password))
    account = pj.Account()
    account.create(account_config)
    answered = [dial(account, number) for number in options.numbers]
    status: int | str = 0 if all(answered) else 1
except KeyboardInterrupt:
    status = 1
except pj.Error as error:
    status = f"pjsip says: {error.reason}"
finally:
    endpoint.libDestroy()
sys.exit(status)
