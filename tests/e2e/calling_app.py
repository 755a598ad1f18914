"""An ordinary pjsua2 program with pjfail attached, that calls: calling_app.py TRANSPORT SERVER...

"call" on its standard input calls the domain of these servers, "hang up" ends that, "listen" sends a tone for a second
and tells how many RTP packets have come back. It prints each state of the call.
"""

from __future__ import annotations

import sys
import time

import pjsua2 as pj
from rig.prelude import Account, Endpoint, emit, heard

import pjfail

transport, *servers = sys.argv[1:]


class Call(pj.Call):  # type: ignore[misc]
    def onCallState(self, _: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        emit(state=info.stateText, code=info.lastStatusCode, at=time.monotonic())

    def listen(self) -> int:
        """RTP packets received within a second of a tone."""
        tones = pj.ToneGenerator()
        tones.createToneGenerator(8000, 1)
        tone = pj.ToneDesc()
        tone.freq1, tone.on_msec, tone.off_msec = 440, 2000, 0
        tones.play(pj.ToneDescVector([tone]))
        tones.startTransmit(self.getAudioMedia(-1))
        time.sleep(1)
        received: int = self.getStreamStat(0).rtcp.rxStat.pkt
        return received


with Endpoint(transports=(transport,)) as endpoint:
    table = {"sip.test": [(server, priority, 0) for priority, server in enumerate(servers)]}
    pjfail.attach(lookup=pjfail.StaticLookup(table))
    account = Account(endpoint, password="secret")
    account.open("sip:alice@sip.test")
    while word := heard():
        if word == "call":
            call = Call(account)
            called_at = time.monotonic()
            call.makeCall(f"sip:bob@sip.test;transport={transport}", pj.CallOpParam(True))
            emit(called=called_at)
        elif word == "hang up":
            call.hangup(pj.CallOpParam())
        elif word == "listen":
            emit(received=call.listen(), codec=call.getStreamInfo(0).codecName)
    del call
