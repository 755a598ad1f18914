"""setuptools' entry; what there is to say stands in pyproject.toml and pjfail_build.py."""

from setuptools import setup

# The core uses CPython's stable ABI: one wheel serves every Python from the oldest one on.
setup(cffi_modules=["pjfail_build.py:ffi"], options={"bdist_wheel": {"py_limited_api": "cp311"}})
