"""The compiled C core as cffi makes it; pjfail.bridge gives it types."""

from typing import Any

ffi: Any
lib: Any
