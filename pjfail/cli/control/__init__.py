"""``python -m pjfail ctl`` and ``watch``: another process's pjfail, by its control socket."""
