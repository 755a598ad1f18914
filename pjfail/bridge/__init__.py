"""The only package that calls the C core: values in, values out. It has a file for each concern, as the core does.

Any Python thread may call its functions, unless one says otherwise; the GIL is released inside. The core holds its
locks for microseconds, and no Python runs under them.
"""

from __future__ import annotations

from pathlib import Path

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
