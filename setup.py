"""setuptools' entry; what there is to say stands in pyproject.toml and pjfail_build.py."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext


class ParallelBuild(build_ext):
    """Compiles as many files at a time as there are processors; setuptools compiles one after the other."""

    def build_extensions(self) -> None:
        compile_files = self.compiler.compile

        def compile_in_parallel(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiled = pool.map(lambda source: compile_files([source], **options), sources)
                return [name for names in compiled for name in names]

        self.compiler.compile = compile_in_parallel
        super().build_extensions()


# The core uses CPython's stable ABI: one wheel serves every Python from the oldest one on.
setup(
    cffi_modules=["pjfail_build.py:ffi"],
    cmdclass={"build_ext": ParallelBuild},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
