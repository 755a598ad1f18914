"""Because this file is here, pytest puts this folder on the path: tests say `from rig.app import run_app`."""

import signal

# A shell without job control puts commands into the background with SIGINT ignored, which all their children inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
