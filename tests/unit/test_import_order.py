"""The modules of pjfail import one way only, as tools/import_order.py has it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("import_order", ROOT / "tools" / "import_order.py")
assert _spec is not None
assert _spec.loader is not None
order = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(order)


def test_pjfail_imports_one_way() -> None:
    assert list(order.problems(order.imports_of(ROOT / "pjfail"))) == []


def test_every_layer_is_of_modules_that_there_are() -> None:
    names = {name.partition(".")[0] for name in order.imports_of(ROOT / "pjfail")} | {"_native"}
    assert set().union(*order.LAYERS) == names


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"model": "from .worker import Worker"}, "pjfail.model imports pjfail.worker, which is in a layer above it"),
        (
            {"model": "def f():\n    from . import worker"},
            "pjfail.model imports pjfail.worker, which is in a layer above it",
        ),
        (
            {"events": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pjfail.failover"},
            "pjfail.events imports pjfail.failover, which is in a layer above it",
        ),
        ({"order": "from .health import at", "health": "from .order import ask"}, "import cycle: pjfail."),
        (
            {"targets": "from ._native import lib"},
            "pjfail.targets imports pjfail._native, which pjfail.bridge alone may",
        ),
        (
            {"bridge/plans": "from .._native import lib\nfrom ..worker import x"},
            "pjfail.bridge.plans imports pjfail.worker",
        ),
        ({"wonder": ""}, "pjfail.wonder is in no layer of tools/import_order.py"),
    ],
)
def test_an_import_the_other_way_is_told(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    package = tmp_path / "pjfail"
    for name in ("__init__", "bridge/__init__", "worker", "failover", *files):
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files.get(name, ""))
    found = list(order.problems(order.imports_of(package)))
    assert len(found) == 1
    assert found[0].startswith(problem)
