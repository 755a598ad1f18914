"""What is public: each name is there, and the typing test uses each one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import pjfail
from pjfail import events, listeners, lookup

TYPING_TEST = Path(__file__).parents[1] / "typing" / "whole_api.py"


def test_every_public_name_is_there() -> None:
    for module in (pjfail, events, listeners, lookup):
        assert {name for name in module.__all__ if not hasattr(module, name)} == set()


@pytest.mark.parametrize("module", ["pjfail", "pjfail.listeners"])
def test_every_public_name_is_offered_before_its_first_use(module: str) -> None:
    """By `dir()`, and so by a shell's completion; those too that are imported when asked for."""
    program = f"import {module} as module; print(*sorted({{*module.__all__}} - {{*dir(module)}}))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "\n"


def test_the_typing_test_uses_every_public_name() -> None:
    used = set(re.findall(r"\w+", TYPING_TEST.read_text()))
    methods = {name for name in vars(pjfail.Failover) if not name.startswith("_")}
    public = {name for module in (pjfail, events, listeners, lookup) for name in module.__all__}
    assert (public | methods) - used == set()


def test_every_event_is_public() -> None:
    assert {kind.__name__ for kind in get_args(events.Event)} <= set(events.__all__)


def test_another_name_is_not_there() -> None:
    for module in (pjfail, listeners):
        with pytest.raises(AttributeError, match="no attribute 'atach'"):
            module.atach  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    assert re.match(r"\d+\.\d+", pjfail.__version__)
