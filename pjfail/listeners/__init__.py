"""Ready listeners for :func:`pjfail.attach`: into the log, into Prometheus, into an asyncio queue.

::

    pjfail.attach(listeners=[pjfail.listeners.LogListener(), pjfail.listeners.PrometheusListener()])

``PrometheusListener`` needs the extra: ``pip install "pjfail[prometheus]"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .logging import LogListener
from .queue import QueueListener

if TYPE_CHECKING:
    from ..failover import Attached
    from .prometheus import PrometheusListener

__all__ = ["Attached", "LogListener", "PrometheusListener", "QueueListener"]


if not TYPE_CHECKING:  # type checkers shall know of no other names than these

    def __getattr__(name: str) -> object:
        if name == "PrometheusListener":  # imported when asked for: prometheus_client is optional
            from .prometheus import PrometheusListener

            return PrometheusListener
        if name == "Attached":  # it comes with the compiled core
            from ..failover import Attached

            return Attached
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
