"""A voice bot: it answers whoever calls, plays to them, and moves to a server that works when its own fails.

python examples/voice_bot.py bot@example.com --play greeting.wav --nameserver 192.0.2.53

It registers again and again, as pjsip does by itself. failover.follow() keeps all that it sends on the server that it
is registered with, and registers it with the next one when that fails. It needs no sound card.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import pjsua2 as pj

import pjfail


class Call(pj.Call):
    def onCallState(self, _: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        logging.info("call from %s: %s", info.remoteUri, info.stateText)

    def onCallMediaState(self, _: pj.OnCallMediaStateParam) -> None:
        bot.prompt.startTransmit(self.getAudioMedia(-1))


class Bot(pj.Account):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []  # pjsua2 ends a call without a reference
        self.prompt: pj.AudioMedia | None = None

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        logging.info("registration: %d %s", prm.code, prm.reason)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        self.calls = [call for call in self.calls if call.isActive()] + [Call(self, prm.callId)]
        answer = pj.CallOpParam()
        answer.statusCode = pj.PJSIP_SC_OK
        self.calls[-1].answer(answer)


def prompt(wav: Path | None) -> pj.AudioMedia:
    """What callers hear, again and again."""
    if wav:
        player = pj.AudioMediaPlayer()
        player.createPlayer(str(wav))
    else:
        player = pj.ToneGenerator()
        player.createToneGenerator(8000)
        tone = pj.ToneDesc()
        tone.freq1, tone.on_msec, tone.off_msec = 440, 1000, 1000
        player.play(pj.ToneDescVector([tone]), True)
    return player


parser = argparse.ArgumentParser(description="Answer calls, and live on a server that works.")
parser.add_argument("address", metavar="USER@DOMAIN")
parser.add_argument("--password", help="where the registrar asks for one")
parser.add_argument("--play", metavar="WAV", type=Path, help="what callers hear (8 kHz, mono); without, a tone")
parser.add_argument("--expires", metavar="SECONDS", type=int, default=300, help="of a registration (300)")
parser.add_argument("--nameserver", metavar="IP[:PORT]", action="append", help="may be repeated; without, the system's")
options = parser.parse_args()
if not all(options.address.partition("@")):
    parser.error(f"{options.address!r} is not a valid USER@DOMAIN")
if options.play and not options.play.is_file():
    parser.error(f"{options.play}: there is no such file")
try:
    lookup = pjfail.DnsLookup(options.nameserver)
except pjfail.BadServer as error:
    parser.error(str(error))
logging.basicConfig(level=logging.INFO, format="%(message)s")  # pjfail tells there what it does

endpoint = pj.Endpoint()
endpoint.libCreate()
bot = Bot()
try:
    config = pj.EpConfig()
    config.medConfig.clockRate = 8000  # that of a telephone, so that nothing needs to be resampled
    config.logConfig.level = 1
    endpoint.libInit(config)
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    bot.prompt = prompt(options.play)
    failover = pjfail.attach(lookup=lookup)
    bot_config = pj.AccountConfig()
    bot_config.idUri = f"sip:{options.address}"
    bot_config.regConfig.registrarUri = f"sip:{options.address.partition('@')[2]}"
    bot_config.regConfig.timeoutSec = options.expires
    if options.password:
        user = options.address.partition("@")[0]
        bot_config.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", user, 0, options.password))
    bot.create(bot_config)  # this sends the first REGISTER
    failover.follow(bot)
    while True:
        time.sleep(1)
except KeyboardInterrupt:
    status: int | str = 0
except pj.Error as error:
    status = f"pjsip says: {error.reason}"
finally:
    bot.calls.clear()  # calls and players must be gone before the endpoint ends
    bot.prompt = None
    endpoint.libDestroy()
sys.exit(status)
