"""The only package that calls the C core: values in, values out. It has a file for each concern, as the core does.

Any Python thread may call its functions, unless one says otherwise; the GIL is released inside. The core holds its
locks for microseconds, and no Python runs under them.
"""

from __future__ import annotations

import sys
from pathlib import Path

if "t" in sys.abiflags:
    _version = f"3.{sys.version_info.minor}"
    raise ImportError(
        f"pjfail does not run on a free-threaded Python, and this is one ({_version}t): its compiled core uses "
        "CPython's stable ABI abi3, which no free-threaded Python has; "
        f"run your program with the ordinary python{_version}"
    )
try:
    import _cffi_backend as _cffi_backend  # which _native imports in C, where those who freeze programs do not see it

    from .. import _native as _native
except ImportError as error:
    _folder = Path(__file__).resolve().parents[2]
    _advice = "install pjfail anew, for this very Python"
    if (_folder / "pjfail_build.py").exists():
        _advice = (
            f"{_folder} is a clone of pjfail without a built core, and its folder pjfail/ hides an installed pjfail: "
            "leave that folder, or run 'make setup' there and use its .venv/bin/python"
        )
    raise ImportError(f"pjfail's compiled core cannot be loaded ({error}); {_advice}") from error
