"""``python -m pjfail doctor``: finds the pjsip of this environment, and reports whether pjfail works with it."""
