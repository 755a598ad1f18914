"""``python -m pjfail demo``: a pjsua2 program loses its SIP server, once with stock pjsip and once with pjfail.

Everything runs on 127.0.77.0/24: a name server, two registrars, and examples/keep_registered.py in child processes.
"""
