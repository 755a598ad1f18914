"""A plain pjsua2 program, as there are many: it stays registered, takes calls, and checks that a number still answers.

python examples/plain_app.py alice@example.com --nameserver 192.0.2.53 --call sip:echo@example.com

It knows nothing of pjfail. The line that makes it outlive its server is in plain_app.diff; patch(1) puts it in.
"""

import argparse
import ipaddress
import signal
import time

import pjsua2 as pj


class Call(pj.Call):
    def onCallState(self, _: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        print(f"CALL {info.remoteUri} {info.stateText} {info.lastStatusCode} {info.lastReason}")


class Account(pj.Account):
    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Call] = []  # pjsua2 ends a call without a reference

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        print(f"REGISTER {prm.code} {prm.reason}")

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        self.taken = [call for call in self.taken if call.isActive()] + [Call(self, prm.callId)]
        answer = pj.CallOpParam()
        answer.statusCode = pj.PJSIP_SC_OK
        self.taken[-1].answer(answer)


parser = argparse.ArgumentParser(description="Stay registered, take calls, and check that a number still answers.")
parser.add_argument("address", metavar="USER@DOMAIN")
parser.add_argument(
    "--nameserver", metavar="IP", type=ipaddress.ip_address, required=True, help="it knows the SRV records of DOMAIN"
)
parser.add_argument("--call", metavar="URI", help="call this one, again and again")
parser.add_argument("--every", metavar="SECONDS", type=float, default=60.0, help="from call to call (60)")
options = parser.parse_args()
if not all(options.address.partition("@")):
    parser.error(f"{options.address!r} is not a valid USER@DOMAIN")
interrupted: list[int] = []
signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))

endpoint = pj.Endpoint()
endpoint.libCreate()
config = pj.EpConfig()
config.uaConfig.threadCnt = 0  # all callbacks come from libHandleEvents() below
config.uaConfig.mainThreadOnly = True
config.uaConfig.nameserver.append(str(options.nameserver))
config.medConfig.clockRate = 8000
config.logConfig.level = 1
endpoint.libInit(config)
endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
endpoint.libStart()
endpoint.audDevManager().setNullDev()

account_config = pj.AccountConfig()
account_config.idUri = f"sip:{options.address}"
account_config.regConfig.registrarUri = f"sip:{options.address.partition('@')[2]}"
account = Account()
account.create(account_config)

check, next_check = None, time.monotonic() + 1
while not interrupted:
    endpoint.libHandleEvents(20)
    if check and check.isActive():
        if check.getInfo().state == pj.PJSIP_INV_STATE_CONFIRMED:
            check.hangup(pj.CallOpParam())
    elif options.call and time.monotonic() > next_check:
        next_check = time.monotonic() + options.every
        check = Call(account)
        try:
            check.makeCall(options.call, pj.CallOpParam(True))
        except pj.Error as error:
            print("CALL", options.call, error.reason)

check = None  # before the endpoint ends, all calls must be gone
account.taken.clear()
endpoint.libDestroy()
