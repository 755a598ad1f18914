"""Where control sockets lie, and what a folder must be like to hold one. Without the compiled core."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import ControlError

VARIABLE = "PJFAIL_CONTROL"

# What a UNIX socket's path may have on Linux (octets).
MAX_PATH = 107


def wanted_by_environment() -> bool | str:
    """What PJFAIL_CONTROL asks for: nothing (unset, empty, 0, false), the socket of the default place (1, true), one at
    a path."""
    value = os.environ.get(VARIABLE, "")
    return {"": False, "0": False, "false": False, "1": True, "true": True}.get(value.lower(), value)


def folders(user: int) -> list[Path]:
    """The folders where the sockets of *user*'s processes may be."""
    found = [Path(f"/run/user/{user}/pjfail"), _temporary() / f"pjfail-{user}"]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and Path(runtime, "pjfail") not in found:
        found.insert(0, Path(runtime, "pjfail"))
    return found


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # this process may write nowhere, and learns so when it makes its folder
        return Path("/tmp")


def own_path() -> Path:
    """The path of this process's socket, in a folder of this user alone, made if need be. Raises ControlError."""
    user = os.geteuid()
    *runtime, temporary = folders(user)
    folder = next((each for each in runtime if _belongs_to(each.parent, user)), temporary)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ControlError(f"{folder} cannot be made: {error.strerror}; give attach(control=) a path") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o077:
        raise ControlError(
            f"{folder} is not a folder of user {user} alone (its owner is {found.st_uid}, its mode {_mode(found)}); "
            "remove it, or give attach(control=) a path"
        )
    for old in folder.glob("*.sock"):  # of processes that were killed
        if not answers(old):
            old.unlink(missing_ok=True)
    return folder / f"{os.getpid()}.sock"


def given_path(path: str | os.PathLike[str]) -> Path:
    """A path that somebody chose, made absolute. Raises ControlError when others could put their socket there."""
    if os.sep not in os.fspath(path):  # a "yes" or "on" that was meant for true
        raise ControlError(
            f"{os.fspath(path)!r} is not a valid path for a control socket; write its folder, too, or for the default "
            "place 1, in Python True"
        )
    chosen = Path(path).expanduser().absolute()
    folder, user = chosen.parent, os.geteuid()
    try:
        found = folder.stat()
    except OSError as error:
        raise ControlError(f"{folder} cannot hold a control socket: {error.strerror}; create this folder") from None
    closed = not found.st_mode & 0o022 or found.st_mode & stat.S_ISVTX
    if found.st_uid not in (0, user) or not closed:
        raise ControlError(
            f"{folder} cannot hold a control socket: others may write there (its owner is {found.st_uid}, its mode "
            f"{_mode(found)}); choose a folder of user {user}"
        )
    return chosen


def require_short(path: Path) -> None:
    """Raises ControlError for a path that is too long for a socket."""
    length = len(os.fsencode(path))
    if length > MAX_PATH:
        raise ControlError(f"{path} has {length} octets; a socket's path has {MAX_PATH} at the most: choose a shorter")


def answers(path: Path) -> bool:
    """Whether a process listens at *path*. Raises ControlError when a file is there that is not a socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ControlError(f"{path} is not a socket; remove this file, or choose another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(str(path))
    except BlockingIOError:  # it listens, and many are waiting
        return True
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def live_sockets(user: int) -> Iterator[Path]:
    """The sockets of *user*'s processes at which one listens."""
    for folder in folders(user):
        try:
            found = folder.lstat()
            paths = sorted(folder.glob("*.sock"))
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user:
            yield from (path for path in paths if path.is_socket() and answers(path))


def _belongs_to(folder: Path, user: int) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == user


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"
