"""setuptools' entry; what there is to say stands in pyproject.toml and pjfail_build.py."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext


class Build(build_ext):
    """Compiles as many files at a time as there are processors; setuptools compiles one after the other.

    Puts pjfail.pth beside the packages, too, where Python reads it: setuptools has no word for that.
    """

    def run(self) -> None:
        super().run()
        folder = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        self.mkpath(folder)
        self.copy_file("pjfail.pth", folder)

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
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
