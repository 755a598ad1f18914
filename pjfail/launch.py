"""Attaching without a line in the program: what ``libStart()`` does under ``python -m pjfail run`` and ``PJFAIL=1``."""

from __future__ import annotations

import logging
import os
from functools import partial

from . import configuration, failover
from .errors import ControlError

log = logging.getLogger("pjfail")


def attach() -> None:
    """Attaches with the configuration of this process, unless the program has attached by itself.

    When it does so later, its own attachment takes the place of this one. A control socket that cannot be made costs no
    failover, unless PJFAIL_STRICT is set. Any Python thread, after ``libInit()``. Raises :class:`pjfail.PjfailError`.
    """
    if failover.attached() is not None:
        return
    settings = configuration.read(os.environ)
    if settings.log is not None:
        _show_log(settings.log)
    attach_with = partial(
        failover.attach,
        settings.servers or None,
        lookup=settings.lookup(),
        retry=settings.retry,
        probe=settings.probe,
        follow=settings.follow,
        shared=settings.shared,
    )
    try:
        attached = attach_with(control=settings.control)
    except ControlError as error:
        if configuration.is_strict(os.environ):
            raise
        log.warning("there is no control socket: %s", error)
        attached = attach_with(control=False)
    attached.gives_way = True


def _show_log(level: str) -> None:
    """Writes pjfail's log to standard error from *level* on, whatever the program does with its own."""
    log.setLevel(level.upper())
    log.propagate = False
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
        log.addHandler(handler)
