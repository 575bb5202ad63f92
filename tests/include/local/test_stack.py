"""What `lake down` and `lake up` take with them, and what they leave alone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from include.local import stack
from include.local.nightscout.demo import demo_sites
from include.local.nightscout.server import SiteServer
from include.settings import Settings

# A leader with a worker in its session and, as Airflow's tasks have it, a task in a group of its own.
LEADER = """
import os, sys, time
worker = os.fork()
if worker == 0:
    task = os.fork()
    if task == 0:
        os.setpgid(0, 0)
    time.sleep(300)
print("up", flush=True)
time.sleep(300)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "run").mkdir()
    return Settings(home=tmp_path)


@pytest.fixture
def leader(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", LEADER], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    record(settings, process.pid, psutil.Process(process.pid).create_time())
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    deadline = time.monotonic() + 10
    while len(session(process.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    yield process
    for member in session(process.pid):
        os.kill(member, signal.SIGKILL)
    process.wait()


def record(settings: Settings, pid: int, created: float) -> None:
    (settings.home / "run" / "scheduler.json").write_text(json.dumps({"pid": pid, "created": created}))


def session(leader: int) -> set[int]:
    found = set()
    for each in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(each.pid) == leader and each.status() != psutil.STATUS_ZOMBIE:
                found.add(each.pid)
    return found


def test_workers_and_tasks_of_a_killed_scheduler_are_found(settings: Settings, leader: subprocess.Popen[str]) -> None:
    assert len(stack._members(settings, "scheduler")) == 3
    leader.kill()
    leader.wait()
    left = stack._members(settings, "scheduler")
    assert {each.pid for each in left} == session(leader.pid)
    assert len(left) == 2
    stack._kill(left)
    assert session(leader.pid) == set()


def test_session_of_another_process_with_the_same_number_is_left_alone(
    settings: Settings, leader: subprocess.Popen[str]
) -> None:
    created = psutil.Process(leader.pid).create_time()
    record(settings, leader.pid, created - 60)
    assert stack._members(settings, "scheduler") == []
    record(settings, leader.pid, psutil.boot_time() - 3600)  # before the machine started
    assert stack._members(settings, "scheduler") == []
    (settings.home / "run" / "scheduler.json").unlink()
    assert stack._members(settings, "scheduler") == []


def test_a_checkout_that_knows_fewer_secrets_keeps_those_and_makes_the_others(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    every = stack._generated(file)
    older = {name: value for name, value in every.items() if name != "saas_pseudonym"}
    file.write_text(json.dumps(older))

    newer = stack._generated(file)

    assert newer.keys() == every.keys()
    assert older.items() <= newer.items()
    assert len(newer["saas_pseudonym"]) >= 16
    assert stack._generated(file) == newer
    assert file.stat().st_mode & 0o077 == 0


def test_demo_sites_are_up_when_they_answer_and_not_when_their_port_is_open() -> None:
    """They write their connections in between; Airflow, started before that, would have none."""
    server = SiteServer(demo_sites(date(2026, 1, 1), date(2026, 1, 2), count=1, secret_seed="s"), 0)
    try:
        port = urlsplit(server.base_url).port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            assert not stack._answers(port)
        server.start()
        assert stack._answers(port)
    finally:
        server.stop()
