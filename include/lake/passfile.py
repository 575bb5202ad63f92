"""Passwords for libpq by file, so that no attach string, error text or log can hold one."""

import atexit
import os
import tempfile
import threading
from pathlib import Path

import psutil

from include.connections import Postgres

PREFIX = "lake-pgpass-"


def write_passfile(path: Path, servers: list[Postgres]) -> None:
    """Write a libpq password file that only its owner can read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.writelines(f"{server.passfile_line()}\n" for server in servers if server.password)


def use_passwords(*servers: Postgres) -> None:
    """Make the passwords of `servers` known to libpq in this process and its children, for as long as it lives.

    What the process was given in PGPASSFILE stays valid. Repeatable.
    """
    with _own.mutex:
        known = _known_lines()
        wanted = [server.passfile_line() for server in servers if server.password]
        if all(line in known for line in wanted):
            return
        if _own.path is None:
            handle, name = tempfile.mkstemp(prefix=f"{PREFIX}{os.getpid()}-")
            os.close(handle)
            _own.path, _own.pid = Path(name), os.getpid()
            atexit.register(_remove)
        replaced = {line.rsplit(":", 1)[0] for line in wanted}
        kept = [line for line in known if line.rsplit(":", 1)[0] not in replaced]
        # Replaced as a whole: another thread may be connecting, and would find no password in a file half written.
        handle, new = tempfile.mkstemp(prefix=f"{_own.path.name}-")
        with os.fdopen(handle, "w") as file:
            file.writelines(f"{line}\n" for line in [*wanted, *kept])
        Path(new).replace(_own.path)
        os.environ["PGPASSFILE"] = str(_own.path)


def left_behind() -> list[Path]:
    """Password files of this user whose process was killed: it could not take its own away."""
    found = []
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and path.stat().st_uid == os.getuid() and not psutil.pid_exists(int(pid)):
            found.append(path)
    return found


class _Own:
    path: Path | None = None
    pid: int = 0
    mutex = threading.Lock()


_own = _Own()


def _known_lines() -> list[str]:
    given = os.environ.get("PGPASSFILE")
    if not given or not Path(given).is_file():
        return []
    return Path(given).read_text().splitlines()


def _remove() -> None:
    # A forked child inherits the handler but not the ownership.
    if _own.path is not None and _own.pid == os.getpid():
        _own.path.unlink(missing_ok=True)
