"""The layers of the C core: what the lint says of a source that does not keep to its list."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = [("upper", ["roof"]), ("lower", ["wall", "door"])]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_layers", ROOT / "tools/check_layers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_names_each_file_once(tool: ModuleType) -> None:
    listed = [file for _, files in tool.read_layers((tool.SOURCES / "layers.txt").read_text()) for file in files]
    assert sorted(listed) == sorted({path.stem for path in tool.SOURCES.glob("*.[ch]")} - {"pjfail"})


@pytest.mark.parametrize(
    ("calls", "included", "said"),
    [
        ({("roof", "wall"): {"stand"}, ("wall", "door"): {"open"}}, {("roof", "door")}, []),
        ({("wall", "roof"): {"leak"}}, set(), ["wall calls up to roof: leak"]),
        ({}, {("door", "roof")}, ["door includes roof.h, which stands above it"]),
        ({("wall", "door"): {"open"}, ("door", "wall"): {"hang"}}, set(), ["lower: files call each other in a circle"]),
    ],
)
def test_a_call_upward_and_a_circle_are_told(
    tool: ModuleType, calls: dict[tuple[str, str], set[str]], included: set[tuple[str, str]], said: list[str]
) -> None:
    found = tool.check(LAYERS, {"roof", "wall", "door"}, calls, included)
    assert [line.split(": wall >")[0].split(": door >")[0] for line in found] == said


def test_a_file_that_is_in_no_layer_and_one_that_is_no_file_are_told(tool: ModuleType) -> None:
    assert tool.check(LAYERS, {"roof", "wall", "cellar"}, {}, set()) == ["cellar is in no layer", "door is no file"]
