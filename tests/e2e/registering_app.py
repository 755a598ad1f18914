"""An ordinary pjsua2 program with pjfail attached: it sends what it is told to, and prints each answer as it comes.

registering_app.py NAMESERVER TRANSPORT CA: a method on its standard input sends such a request to example.com.
"""

from __future__ import annotations

import sys
import threading

from rig.prelude import Account, Endpoint, emit, heard

import pjfail

nameserver, transport, ca = sys.argv[1:]
uri = f"sip:example.com;transport={transport}"


def print_answers(account: Account) -> None:
    while True:
        emit(**account.answers.get()._asdict())


with Endpoint(transports=(transport,), ca=ca) as endpoint:
    pjfail.attach(lookup=pjfail.DnsLookup(nameservers=[nameserver]))
    account = Account(endpoint)
    account.open("sip:alice@example.com", uri)
    threading.Thread(target=print_answers, args=(account,), daemon=True).start()
    while word := heard():
        if word == "REGISTER":
            account.send_register()
        else:
            account.send(word, uri)
