"""The stub of the extension says what the extension has: every constant and function of pjfail.h, with its types."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pjfail
from pjfail._native import ffi, lib

STUB = Path(pjfail.__file__).with_name("_native.pyi")


def in_python(c: Any, *, result: bool = False) -> str:
    """The Python type of the C type *c*, as cffi converts it."""
    if c.kind == "void":
        return "None"
    if c.kind == "pointer":
        return "bytes | CData" if c.item.cname == "char" and not result else "CData"
    return "float" if c.cname == "double" else "int"


def has(name: str) -> tuple[str, ...]:
    """What the extension has under *name*: a constant's type, or the types of arguments and result."""
    value = getattr(lib, name)
    if isinstance(value, int):
        return ("int",)
    c = ffi.typeof(value)
    return (*(in_python(argument) for argument in c.args), in_python(c.result, result=True))


def says() -> dict[str, tuple[str, ...]]:
    """The same, as the stub says it."""
    (body,) = (node.body for node in ast.parse(STUB.read_text()).body if getattr(node, "name", "") == "_Lib")
    said: dict[str, tuple[str, ...]] = {}
    for node in body:
        if isinstance(node, ast.AnnAssign):
            said[ast.unparse(node.target)] = (ast.unparse(node.annotation),)
        else:
            assert isinstance(node, ast.FunctionDef)
            arguments = node.args.posonlyargs[1:]  # without self
            if not arguments:
                assert [each.arg for each in (*node.args.posonlyargs, *node.args.args)] == ["self"], node.name
            types = [each.annotation for each in arguments] + [node.returns]
            said[node.name] = tuple(ast.unparse(each) for each in types if each is not None)
    return said


def test_the_stub_says_what_the_extension_has() -> None:
    assert says() == {name: has(name) for name in dir(lib)}
