"""Because this file is here, pytest puts this folder on the path: tests say `from rig.app import run_app`."""
