"""One memory for all processes: what one has learnt of a server, all know.

``settings`` is what ``attach(shared=)`` takes; ``entries`` what processes tell each other, ``board`` what that weighs
(both pure); ``store`` what a store owes, ``sqlite`` and ``redis`` the two that there are; ``link`` keeps the connection
to one; ``sharing`` is the worker's part.
"""

from .settings import Shared

__all__ = ["Shared"]
