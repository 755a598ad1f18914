"""``python -m pjfail watch``: a live screen of a running program's servers, plans, accounts and failovers."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...control.client import Client, find
from ...control.place import answers
from ...errors import ControlError

if TYPE_CHECKING:
    from rich.console import Console

    from .screen import View

INTERVAL = 1.0
"""Seconds between two looks at the program."""
REDRAW = 0.25
"""Seconds after which the screen is drawn anew, if no key was pressed: a terminal may have another size by then."""
MARK_DOWN = 600
"""Seconds for which the key "m" marks a server down."""
SILENCE = 3.0
"""Seconds that the program may be silent before the screen says so."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to *commands*."""
    parser = commands.add_parser(
        "watch",
        help="watch the servers and failovers of a running program",
        description="Show the servers, plans, accounts and failovers of a running program, and drain or restore "
        "servers with a key. The program needs a control socket: start it with PJFAIL_CONTROL=1, or let it call "
        "pjfail.attach(control=True).",
        epilog="Exit status: 0 left with q, 1 nothing to watch or the program has gone, 130 left with Ctrl-C.",
    )
    parser.add_argument("to", metavar="PID|SOCKET", nargs="?", help="which program, if there are several")
    parser.add_argument("--once", action="store_true", help="print what there is and end, as without a terminal")
    parser.add_argument("--json", action="store_true", help="print what there is as JSON and end")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Watches until a key or the program ends it. Raises ControlError when there is nothing to watch."""
    if arguments.to == "all":
        raise ValueError("watch shows one program; give a process id or a socket, or use ctl --to all")
    (path,) = find(arguments.to)
    with Client(path, timeout=SILENCE) as client:
        told = client.ask("snapshot")
        if arguments.json:
            print(json.dumps(told, indent=2))
            return 0
        try:
            from rich.console import Console

            from .screen import View, render
        except ImportError:
            raise ControlError('watch needs rich: pip install "pjfail[watch]"; or use --json, or ctl') from None
        console, view = Console(highlight=False), View(told)
        if arguments.once or not console.is_terminal or console.is_dumb_terminal:
            if not console.is_terminal:
                console.width = 200
            console.print(render(view, console.width, None))
            return 0
    watching = _Watching(path, console, view)
    try:
        watching.run()
    finally:
        watching.close()
    if watching.ended:
        console.print(render(view, console.width, None))
        print(f"pjfail: {watching.ended}", file=sys.stderr)
        return 1
    return 0


class _Watching:
    """One screen, until ``ended`` says why, or a key."""

    def __init__(self, path: Path, console: Console, view: View) -> None:
        self.ended = ""
        self._path = path
        self._console = console
        self._view = view
        self._client: Client | None = None
        self._confirmed: tuple[str, Mapping[str, Any]] | None = None
        self._leaving = False

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def run(self) -> None:
        from rich.live import Live

        from .screen import render

        look_at = time.monotonic() + INTERVAL
        with _keys() as read, Live(console=self._console, screen=True, auto_refresh=False) as live:
            while not self._leaving and not self.ended:
                width, height = os.get_terminal_size(self._console.file.fileno())
                self._console.size = width, height
                live.update(render(self._view, width, height), refresh=True)
                for key in read(min(REDRAW, max(look_at - time.monotonic(), 0.0))):
                    self._press(key)
                if time.monotonic() >= look_at:
                    self._look()
                    look_at = time.monotonic() + INTERVAL

    def _look(self) -> None:
        told = self._ask("snapshot")
        if told is not None:
            self._view.before, self._view.told, self._view.problem = self._view.told, told, ""

    def _ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """What the program answers; None, with the screen saying why, when it does not."""
        try:
            if self._client is None:
                self._client = Client(self._path, timeout=SILENCE)
            return self._client.ask(command, arguments)
        except ControlError as error:
            if command != "snapshot" and self._client is not None and self._client.connected:
                raise
            self.close()  # an answer that comes late would be taken for that of the next question
            self._client = None
            if not answers(self._path):
                self.ended = f"the program has gone, or has detached pjfail, at {time.strftime('%H:%M:%S')}"
            self._view.problem = str(error)
            return None

    def _press(self, key: str) -> None:
        view = self._view
        view.message = ""
        if view.typing:
            if key in ("\r", "\n", "\x1b"):
                view.typing = False
            elif key in ("\x7f", "\b"):
                view.filter = view.filter[:-1]
            elif key.isprintable() and len(key) == 1:
                view.filter += key
        elif view.question:
            view.question = ""
            if key.lower() == "y":
                self._do()
            else:
                view.message = "nothing was done"
        elif key == "q":
            self._leaving = True
        elif key in ("\x1b[A", "\x1bOA", "k"):
            view.select(-1)
        elif key in ("\x1b[B", "\x1bOB", "j"):
            view.select(1)
        elif key == "s":
            from .screen import SORTS

            view.sort = SORTS[(SORTS.index(view.sort) + 1) % len(SORTS)]
        elif key == "/":
            view.typing, view.filter = True, ""
        elif key == "u":
            self._confirm("look all servers up again?", "refresh", {})
        elif key in ("d", "m", "r"):
            if not view.selected:
                view.select(0)
            name = view.selected
            if not name:
                view.message = "there is no server to choose"
            elif key == "d":
                self._confirm(f"drain {name}: no new requests until restored?", "drain", {"server": name})
            elif key == "m":
                arguments = {"server": name, "seconds": MARK_DOWN}
                self._confirm(f"mark {name} down for {MARK_DOWN} s?", "mark-down", arguments)
            else:
                self._confirm(f"restore {name}?", "restore", {"server": name})

    def _confirm(self, question: str, command: str, arguments: Mapping[str, Any]) -> None:
        self._view.question = question
        self._confirmed = command, arguments

    def _do(self) -> None:
        assert self._confirmed is not None
        command, arguments = self._confirmed
        try:
            done = self._ask(command, arguments)
        except ControlError as error:
            self._view.message = str(error)
        else:
            if done is not None:
                self._view.message = f"{command} {arguments.get('server', '')}: done".replace(" :", ":")
                self._look()


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """Gives a function that waits for keys so many seconds; the terminal is as it was afterwards."""
    descriptor = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
    if descriptor < 0:
        yield _wait
        return
    was = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def read(seconds: float) -> list[str]:
        if not select.select([descriptor], [], [], seconds)[0]:
            return []
        text = os.read(descriptor, 1024).decode("utf-8", "replace")
        if not text:
            raise KeyboardInterrupt  # the terminal has been closed
        return _split(text)

    try:
        yield read
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, was)


def _wait(seconds: float) -> list[str]:
    time.sleep(seconds)
    return []


def _split(text: str) -> list[str]:
    """The keys in *text*: an arrow is three characters."""
    keys: list[str] = []
    while text:
        length = 3 if text[:2] in ("\x1b[", "\x1bO") and len(text) >= 3 else 1
        keys.append(text[:length])
        text = text[length:]
    return keys
