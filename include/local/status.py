"""What `lake status` shows: the states of the status page, and those that only this machine can see."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg

from include import runtime
from include import settings as environment
from include.errors import LakehouseError, first_line
from include.lake.backup import Location, made_at
from include.local import airflow_api, stack
from include.release import ledger
from include.web import pages
from include.web.status import Group, Level, Sources, State, Status, project_domains
from include.web.status import collect as collect_pages

BACKUP_LATE = timedelta(hours=36)  # one is due every day


def collect() -> Status:
    """Every state, in the order in which an operator asks. Processes are listed where `up` has started some."""
    settings = environment.settings()
    now = datetime.now(UTC)
    seen = collect_pages(Sources(settings.quality_dir, project_domains, runtime.marts_reader, runtime.lake_reader), now)
    states = [_airflow(), _backup(now)]
    if (settings.home / "run").is_dir():
        left, silent = stack.left_behind(), stack.unhealthy(settings)
        processes = stack.running().items()
        states = [*(_process(name, alive, left.get(name, 0), name in silent) for name, alive in processes), *states]
    return replace(seen, groups=(Group("Here", tuple(states)), *seen.groups))


def _process(name: str, alive: bool, left: int, silent: bool) -> State:
    if alive and silent:
        return State(name, Level.FAILED, "Runs, but gives no sign of life; `lake up` starts it anew.")
    if alive:
        return State(name, Level.OK, "Runs.")
    if left:
        return State(name, Level.FAILED, f"Does not run, and left {left} processes; `lake up` mends it.")
    return State(name, Level.FAILED, "Does not run; `lake up` starts it.")


def _airflow() -> State:
    name = "Airflow's API"
    try:
        answers = airflow_api.reachable(environment.connection("airflow_api"))
    except LakehouseError as error:
        return State(name, Level.UNKNOWN, str(error))
    if not answers:
        return State(name, Level.FAILED, "Does not answer; `lake up` starts it.")
    return State(name, Level.OK, f"Answers at {stack.login().url}.")


def _backup(now: datetime) -> State:
    """How old the newest backup is; none is due before there has been a release for as long."""
    name = "Backup"
    try:
        ids = Location(runtime.backups(), runtime.lake_reader().temp_directory).ids()
        entries = [] if ids else ledger.entries(runtime.marts_reader())
    except (LakehouseError, psycopg.Error, OSError) as error:
        return State(name, Level.UNKNOWN, first_line(error))
    if ids:
        age = now - made_at(ids[-1])
        level = Level.OK if age <= BACKUP_LATE else Level.LATE
        return State(name, level, f"{ids[-1]}, {pages.span(age)} old; {len(ids)} kept.")
    if not entries or now - entries[0].released_at <= BACKUP_LATE:
        return State(name, Level.OK, "None yet, and none was due; DAG `lake_backup` makes one a day, once switched on.")
    return State(name, Level.LATE, "There is none; `lake backup` makes one, and DAG `lake_backup` one a day.")
