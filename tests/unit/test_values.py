"""Values made by pjfail's own ``dataclass`` are like those made by the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import field
from typing import Any

import pytest

from pjfail import _values


class _Base:
    __slots__ = ()

    def doubled(self) -> int:
        return 2 * self.number  # type: ignore[attr-defined,no-any-return]


@_values.dataclass(frozen=True, slots=True)
class Ours(_Base):
    """A value."""

    number: int
    text: str = "a"
    aside: float | None = field(default=None, compare=False)
    secret: str = field(default="", repr=False)
    several: dict[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("negative")
        object.__setattr__(self, "text", self.text.lower())


@dataclasses.dataclass(frozen=True, slots=True)
class Theirs(_Base):
    """A value."""

    number: int
    text: str = "a"
    aside: float | None = field(default=None, compare=False)
    secret: str = field(default="", repr=False)
    several: dict[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("negative")
        object.__setattr__(self, "text", self.text.lower())


BOTH = pytest.mark.parametrize("kind", [Ours, Theirs])


@BOTH
def test_a_value_is_made_compared_and_written(kind: Any) -> None:
    value = kind(1, "B", aside=2.0, secret="x")
    assert (value.number, value.text, value.aside, value.secret, value.several) == (1, "b", 2.0, "x", {})
    assert value == kind(1, "b", secret="x")
    assert hash(value) == hash(kind(1, "b", secret="x", several={"c": 1}))
    assert value != kind(2, "b", secret="x")
    assert value != kind(1, "b", secret="x", several={"c": 1})
    assert value != (1, "b", 2.0, "x", {})
    assert repr(value) == f"{kind.__name__}(number=1, text='b', aside=2.0, several={{}})"
    assert value.doubled() == 2
    assert kind(1).several is not kind(1).several


@BOTH
def test_a_value_does_not_change(kind: Any) -> None:
    value = kind(1)
    for name in ("number", "other"):
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            setattr(value, name, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        del value.number
    assert not hasattr(value, "__dict__")


@BOTH
def test_wrong_arguments_are_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.__init__\(\) missing 1 required positional argument"):
        kind()
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        kind(1, other=2)
    with pytest.raises(ValueError, match="negative"):
        kind(-1)


@BOTH
def test_the_functions_for_dataclasses_and_copies_serve(kind: Any) -> None:
    value = kind(1, several={"c": 1})
    assert dataclasses.replace(value, number=2) == kind(2, several={"c": 1})
    assert dataclasses.asdict(value) == {"number": 1, "text": "a", "aside": None, "secret": "", "several": {"c": 1}}
    assert [each.name for each in dataclasses.fields(value)] == ["number", "text", "aside", "secret", "several"]
    for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert other == value
        assert type(other) is kind
    match value:
        case kind(1, text):
            assert text == "a"


def test_both_have_the_same_signature() -> None:
    ours, theirs = (inspect.signature(kind) for kind in (Ours, Theirs))
    assert str(ours) == str(theirs)


@BOTH
@pytest.mark.parametrize("slots", [True, False])
def test_a_users_dataclass_may_have_one_as_its_base(kind: Any, slots: bool) -> None:
    @dataclasses.dataclass(frozen=True, slots=slots)
    class More(kind):  # type: ignore[misc]
        more: int = 3

    value = More(1, more=4)
    assert (value.number, value.text, value.more) == (1, "a", 4)
    assert value == More(1, more=4) != More(1)
    assert "more=4" in repr(value)
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.number = 2
