"""Passwords by file: whole at every moment, and taken away when their process is."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from include.connections import Postgres
from include.lake import passfile
from include.lake.attach import Lake
from include.lake.maintenance import Keep, Step, maintain


def server(number: int) -> Postgres:
    return Postgres("/tmp/nowhere", 5432, f"db{number}", "lake", f"word{number}")


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passfile._own, "path", None)
    monkeypatch.setenv("PGPASSFILE", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_threads_that_connect_to_many_servers_lose_no_password(own_file: None) -> None:
    first = server(0)
    passfile.use_passwords(first)
    lost, done = [], threading.Event()

    def connect() -> None:  # as libpq does, at any moment
        while not done.is_set():
            if first.passfile_line() not in Path(os.environ["PGPASSFILE"]).read_text().splitlines():
                lost.append(first)

    reader = threading.Thread(target=connect)
    reader.start()
    threads = [
        threading.Thread(target=lambda start=start: [passfile.use_passwords(server(start + n)) for n in range(1, 40)])
        for start in (0, 100, 200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    lines = Path(os.environ["PGPASSFILE"]).read_text().splitlines()
    assert lost == []
    assert {server(start + n).passfile_line() for start in (0, 100, 200) for n in range(1, 40)} <= set(lines)
    assert Path(os.environ["PGPASSFILE"]).stat().st_mode & 0o077 == 0


def test_passwords_of_a_killed_process_are_taken_away_by_upkeep(lake: Lake, own_file: None, tmp_path: Path) -> None:
    passfile.use_passwords(server(1))
    mine = Path(os.environ["PGPASSFILE"])
    script = (
        "import os, signal; from include.connections import Postgres; from include.lake.passfile import use_passwords; "
        "use_passwords(Postgres('/tmp/nowhere', 5432, 'db', 'lake', 'word')); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = passfile.left_behind()
    maintain(lake, None, steps=[Step.LEFTOVERS], keep=Keep(files=timedelta(0)), home=tmp_path / "home")
    assert not left.exists()
    assert mine.exists()
