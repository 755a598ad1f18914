"""What the C core reads of the loaded objects' own tables, which glibc and musl have alike."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rig.core import library

CARRIER = """
    char before[3], state[12345], behind[7];
    static char hidden[99];
    char *hidden_at(void) { return hidden; }
"""


@pytest.fixture(scope="session")
def loader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    declarations = "size_t loader_size_of(const void *variable);"
    return library(tmp_path_factory.mktemp("loader") / "loader.so", "loader.c", declarations)


@pytest.mark.parametrize("hash_table", ["sysv", "gnu", "both"])
def test_the_size_of_an_exported_variable(tmp_path: Path, loader: tuple[Any, Any], hash_table: str) -> None:
    """pjsua's state is searched as far as its symbol says, in a pjsip with whichever of the two hash tables."""
    ffi, lib = loader
    path = tmp_path / "carrier.so"
    command = ["cc", "-shared", "-fPIC", f"-Wl,--hash-style={hash_table}", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=CARRIER, text=True, check=True, timeout=60)
    carrier = ctypes.CDLL(str(path))
    at = {name: ctypes.addressof(ctypes.c_char.in_dll(carrier, name)) for name in ("before", "state", "behind")}
    carrier.hidden_at.restype = ctypes.c_void_p
    asked = [*at.values(), at["state"] + 8, carrier.hidden_at(), 0]
    assert [lib.loader_size_of(ffi.cast("void *", address)) for address in asked] == [3, 12345, 7, 0, 0, 0]
    assert ffi.string(lib.pf_object_of(ffi.cast("void *", at["state"]))).decode() == str(path)
    assert lib.pf_object_of(ffi.NULL) == ffi.NULL
