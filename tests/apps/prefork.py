"""A server that forks its workers and starts another for each that ends, as gunicorn does."""

import os
import signal
import sys

from phone import line

workers = {}


def fork(user):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        line(user)
    workers[pid] = user


def end(*_):
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
for user in ("worker1", "worker2"):
    fork(user)
while True:
    pid, _ = os.wait()
    fork(workers.pop(pid))
