"""A step of a flow in a process of its own, as a task has one: stopped at a stated point, then killed or let go on.

Processes are forked from a server that has imported what steps need (as Airflow's scheduler has), so that one costs no
second, and no thread or connection of the test is in it.
"""

import importlib
import itertools
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg

from include.errors import first_line
from tests.pipeline.flow import DomainFlow

Step = Callable[[Any], Any]

PATIENCE_SECONDS = 300
POLL_SECONDS = 0.002

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.faults.preload"])


@dataclass(frozen=True)
class Before:
    """Where the process is about to send the n-th statement that matches, to DuckDB or PostgreSQL.

    `begin`, `commit` and `rollback` count as statements, however they are made. The pattern is a regular expression,
    found anywhere, whatever the case.
    """

    pattern: str
    nth: int = 1


@dataclass(frozen=True)
class After:
    """Where the n-th statement that matches has been answered."""

    pattern: str
    nth: int = 1


@dataclass(frozen=True)
class Entering:
    """Where the process is about to call a function for the n-th time: `module:Class.function`."""

    function: str
    nth: int = 1


@dataclass(frozen=True)
class Commits:
    """Where the lake has n new snapshots, whoever commits; within milliseconds."""

    n: int


@dataclass(frozen=True)
class Delay:
    """So many seconds after the step began."""

    seconds: float


Marked = Before | After | Entering
Point = Marked | Commits | Delay


@dataclass(frozen=True)
class Ended:
    """How a process ended: what its step returned, the error that ended it, or the signal."""

    result: Any = None
    error: str | None = None
    signal: int | None = None

    @property
    def killed(self) -> bool:
        return self.signal == signal.SIGKILL

    @property
    def message(self) -> str:
        """What its end says: the error, or nothing but the exit status."""
        return f"(exit status {-self.signal})" if self.signal else self.error or ""

    def value(self) -> Any:
        assert self.error is None and self.signal is None, self.message
        return self.result


class Child:
    """A step that runs; see `started`."""

    def __init__(self, flow: DomainFlow, step: Step, at: Point | None) -> None:
        self._flow, self._at = flow, at
        self._commits = _snapshots(flow) if isinstance(at, Commits) else 0
        mine, theirs = _context.Pipe(duplex=False)
        self._answers = mine
        marked = at if isinstance(at, Marked) else None
        arguments = (flow.for_a_child(), step, marked, dict(os.environ), theirs)
        self._process = _context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._ps = psutil.Process(self._process.pid)
        self._answers.recv()  # imports are done, the step begins
        self._begun = time.monotonic()

    @property
    def pid(self) -> int:
        return self._ps.pid

    def reached(self) -> bool:
        """Wait for the point; at a statement the process then stands still. False if it ended before a delay or commit.

        Raises:
            AssertionError: it ended, or much time passed, before the statement came.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._alive():
            if self._is_there():
                return True
            assert time.monotonic() < deadline, f"{self._at} was not reached in {PATIENCE_SECONDS} s"
            time.sleep(POLL_SECONDS)
        if isinstance(self._at, Marked):
            raise AssertionError(f"The step ended before {self._at}: {self.ended()}")
        return False

    def kill(self) -> None:
        """kill -9."""
        if self._alive():
            self._ps.kill()

    def go_on(self) -> None:
        """Let a process that stands still go on."""
        self._ps.resume()

    def ended(self) -> Ended:
        """Wait for its end."""
        answer: Ended | None = None
        try:
            if self._answers.poll(PATIENCE_SECONDS):
                answer = self._answers.recv()
        except EOFError:
            answer = None
        self._process.join(PATIENCE_SECONDS)
        assert self._process.exitcode is not None, f"the step did not end in {PATIENCE_SECONDS} s"
        if answer is not None:
            return answer
        return Ended(signal=-self._process.exitcode)

    def _is_there(self) -> bool:
        match self._at:
            case Commits(n):
                return _snapshots(self._flow) >= self._commits + n
            case Delay(seconds):
                return time.monotonic() - self._begun >= seconds
        try:
            return self._ps.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def _alive(self) -> bool:
        return self._process.exitcode is None


@contextmanager
def started(flow: DomainFlow, step: Step, at: Point | None = None) -> Iterator[Child]:
    """Start a step: a function of a flow that can be pickled, such as `partial(Flow.gate, layer=…)`.

    What it returns has to be picklable too. However the block ends, the process does not outlive it.
    """
    child = Child(flow, step, at)
    try:
        yield child
    finally:
        child.kill()
        child._process.join()


def run(flow: DomainFlow, step: Step) -> Ended:
    """A step in a process of its own, undisturbed."""
    with started(flow, step) as child:
        return child.ended()


def killed(flow: DomainFlow, step: Step, at: Point, later: float = 0.0) -> Ended:
    """A step that is killed with kill -9 at a point.

    With a delay or commit, or `later` (seconds that it goes on behind the point), it may have ended before that.
    """
    with started(flow, step, at) as child:
        if child.reached():
            if later:
                child.go_on()
                time.sleep(later)
            child.kill()
        ended = child.ended()
        if isinstance(at, Marked) and not later:
            assert ended.killed, ended
        return ended


def _snapshots(flow: DomainFlow) -> int:
    with psycopg.connect(flow.lake.catalog.conninfo(), password=flow.lake.catalog.password) as catalog:
        schema = flow.lake.metadata_schema
        if catalog.execute("select to_regclass(%s)", [f"{schema}.ducklake_snapshot"]).fetchone() == (None,):
            return 0
        row = catalog.execute(f"select max(snapshot_id) from {schema}.ducklake_snapshot").fetchone()  # type: ignore[arg-type]
        return row[0] if row else 0


# --- in the process of its own ----------------------------------------------------------------------------------


def _work(flow: DomainFlow, step: Step, at: Marked | None, environment: dict[str, str], answers: Any) -> None:
    os.environ.update(environment)
    if at is not None:
        _stand_still(at)
    answers.send("begun")
    try:
        ended = Ended(step(flow))
    except Exception as error:  # noqa: BLE001  told to the test, as Airflow tells it to the operator
        ended = Ended(error=f"{type(error).__name__}: {first_line(error)}")
    answers.send(ended)
    answers.close()


def _stand_still(at: Marked) -> None:
    """Stop all of this process at the point."""
    if isinstance(at, Entering):
        _stop_entering(at)
    else:
        _stop_at_statement(at)


def _stop_entering(at: Entering) -> None:
    module, _, name = at.function.partition(":")
    *owners, function = name.split(".")
    owner: Any = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    original, count = getattr(owner, function), itertools.count(1)

    def call(*arguments: Any, **options: Any) -> Any:
        if next(count) == at.nth:
            os.kill(os.getpid(), signal.SIGSTOP)
        return original(*arguments, **options)

    setattr(owner, function, call)


def _stop_at_statement(at: Before | After) -> None:
    import duckdb

    pattern, count = re.compile(at.pattern, re.IGNORECASE), 0

    def watched(original: Callable, text_of: Callable[..., str]) -> Callable:
        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal count
            matches = pattern.search(text_of(self, *arguments, **options)) is not None
            count += matches
            here = matches and count == at.nth
            if here and isinstance(at, Before):
                os.kill(os.getpid(), signal.SIGSTOP)
            answer = original(self, *arguments, **options)
            if here and isinstance(at, After):
                os.kill(os.getpid(), signal.SIGSTOP)
            return answer

        return call

    def statement(_: Any, query: Any = "", *__: Any, **___: Any) -> str:
        return query.as_string(None) if hasattr(query, "as_string") else str(getattr(query, "query", query))

    for owner, names in (
        (duckdb.DuckDBPyConnection, ("execute", "executemany", "sql", "query")),
        (psycopg.Cursor, ("execute", "executemany")),
    ):
        for name in names:
            setattr(owner, name, watched(getattr(owner, name), statement))
    for owner in (duckdb.DuckDBPyConnection, psycopg.Connection):
        for name in ("begin", "commit", "rollback"):
            if hasattr(owner, name):
                setattr(owner, name, watched(getattr(owner, name), lambda *_, name=name, **__: name))
