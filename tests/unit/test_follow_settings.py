"""The Follow value: what it takes, and what it refuses."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

import pytest

import pjfail
from pjfail.follow_settings import Changes


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"watch": 0}, "watch is 0; give seconds, more than 0, or None for never"),
        ({"watch": "4"}, "watch is '4'"),
        ({"watch": True}, "watch is True"),
        ({"keepalive": -1}, "keepalive is -1"),
        ({"keepalive": 4294968.0}, "keepalive is 4294968.0; give seconds, more than 0 and up to 7200, or None"),
        ({"failback": -1}, "failback is -1; give seconds, or None for never"),
        ({"failback": float("nan")}, "failback is nan"),
        ({"spread": None}, "spread is None; give seconds"),
        ({"spread": float("inf")}, "spread is inf"),
        ({"standby": -1}, "standby is -1; give True, or a number of servers up to 7"),
        ({"standby": 1.5}, "standby is 1.5"),
        ({"standby": 8}, "standby is 8"),
        ({"subscriptions": 1}, "subscriptions is 1; give True or False"),
        ({"network": None}, "network is None; give True or False"),
        ({"calls": True}, 'calls is True; give "refresh", or None to leave calls alone'),
    ],
)
def test_what_is_not_valid_is_refused_in_words(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pjfail.Follow(**wrong)


def test_a_standby_is_one_server() -> None:
    assert pjfail.Follow(standby=True).standby == 1


def test_one_account_may_have_each_setting_otherwise() -> None:
    assert list(Changes.__annotations__) == [field.name for field in fields(pjfail.Follow)]
    assert get_type_hints(Changes) == get_type_hints(pjfail.Follow)
