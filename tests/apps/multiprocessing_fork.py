"""A process for each line, by multiprocessing's "fork"."""

import multiprocessing
import signal
import sys

from phone import line

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    lines = [context.Process(target=line, args=(f"line{number}",), daemon=True) for number in (1, 2)]
    for each in lines:
        each.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for each in lines:
        each.join()
