"""The version of pjfail, for people."""

from __future__ import annotations

from importlib import metadata


def own_version() -> str:
    """Returns the version of pjfail that pip has installed."""
    try:
        return metadata.version("pjfail")
    except metadata.PackageNotFoundError:
        return "not installed"
