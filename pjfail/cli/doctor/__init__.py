"""``python -m pjfail doctor``: the pjsip of this environment, and what pjfail makes of it."""
