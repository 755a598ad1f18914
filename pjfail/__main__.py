"""``python -m pjfail``: the command line, which is in :mod:`pjfail.cli`."""

from __future__ import annotations

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
