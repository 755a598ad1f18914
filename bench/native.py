"""Builds bench/native.c and bench/observer.c into bench/out, against the headers that pjfail itself is built with."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from cffi import FFI

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"

DECLARATIONS = """
int bench_bind(const char *object);
int bench_resolve(const char *name, int count, double *seconds);
double bench_ask(const char *name);
int bench_use_built_in(const char *address, int port);
void bench_add_answer(void *answer, const char *address, int port);
int bench_use_python(void (*resolve)(void *, int, void *));
int bench_serve(const char *address);
double bench_requests(const char *uri, int count, int window);
int bench_time_observer(double *sending, double *receiving, int room);
int bench_observer_timed(void);
double bench_clock(int count);
extern "Python" void python_resolver(void *, int, void *);
"""


def load() -> Any:
    """The compiled module, with its ``lib`` and ``ffi``."""
    sys.path.insert(0, str(HERE.parent))
    from pjfail_build import PARTS, pjproject

    tree = pjproject()
    ffi = FFI()
    ffi.cdef(DECLARATIONS)
    ffi.set_source(
        "bench_native",
        "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("native.c", "observer.c")),
        define_macros=[("PJ_AUTOCONF", "1"), ("PJ_IS_LITTLE_ENDIAN", "1"), ("PJ_IS_BIG_ENDIAN", "0")],
        extra_compile_args=["-O2", *(word for part in PARTS for word in ("-isystem", str(tree / part / "include")))],
    )
    OUT.mkdir(exist_ok=True)
    built = ffi.compile(tmpdir=str(OUT))
    spec = importlib.util.spec_from_file_location("bench_native", built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
