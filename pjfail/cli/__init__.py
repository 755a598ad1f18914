"""``python -m pjfail``: one module or package for each command, and :mod:`pjfail.cli.main`, which chooses."""
