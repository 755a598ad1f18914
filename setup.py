"""setuptools' entry; what there is to say stands in pyproject.toml and pjfail_build.py."""

from setuptools import setup

setup(cffi_modules=["pjfail_build.py:ffi"])
