"""The main job as a newcomer runs it: one command, a stack of its own, the real scheduler."""

import json
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from include import dbt_project
from include.layers import Layer
from include.settings import ROOT
from include.sources.nightscout.streams import STREAMS
from tests.pipeline.own_stack import Airflow, Stack, own_stack

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with own_stack(
        [ROOT / "dags" / "nightscout_daily.py", Path(__file__).parent / "dags" / "after_release.py"]
    ) as made:
        yield made


@pytest.fixture(scope="module")
def airflow(stack: Stack, first_demo: str) -> Iterator[Airflow]:
    with stack.airflow() as client:
        yield client


@pytest.fixture(scope="module")
def first_demo(stack: Stack) -> str:
    done = stack.lake("demo", "--weeks", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(500)
def test_demo_certifies_marts_and_says_where_to_look(stack: Stack, first_demo: str) -> None:
    models = sum(len(dbt_project.models(layer, "nightscout")) for layer in (Layer.SILVER, Layer.GOLD))
    tasks = len(STREAMS) + 1 + models + len(Layer) + 1  # bronze's views, gates, and the release
    assert tasks >= 21
    assert f"{tasks} of {tasks} tasks" in first_demo
    assert "Release 1 certified" in first_demo
    with psycopg.connect(stack.conninfo("marts_reader")) as reader:
        days = dict(reader.execute("select site, count(*) from marts.mrt_daily_glycaemia group by site").fetchall())
        assert set(days) == {"amber", "birch", "cedar", "dune"}
        assert all(count >= 7 for count in days.values())
        assert reader.execute("select count(*) from ledger.releases").fetchone() == (1,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("delete from marts.mrt_daily_glycaemia")


def test_demo_again_takes_up_where_it_was(stack: Stack, first_demo: str) -> None:
    started = time.monotonic()
    again = stack.lake("demo", "--weeks", "1", timeout=90)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "certified already" in again.stdout
    assert time.monotonic() - started < 90


def test_status_and_ledger_are_good_after_the_demo(stack: Stack, first_demo: str) -> None:
    status = stack.lake("status")
    assert status.returncode == 0, status.stdout
    verified = stack.lake("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_scheduled_run_has_the_day_before(airflow: Airflow, first_demo: str) -> None:
    scheduled = airflow.wait_for("nightscout_daily", "scheduled", 1, ("success",))[0]
    today = datetime.now(UTC).date()
    assert airflow.interval("nightscout_daily", scheduled, "ingest.ingest_entries") == (today - DAY, today)


def test_run_that_an_asset_triggers_has_the_interval_of_the_release(airflow: Airflow, first_demo: str) -> None:
    triggered = airflow.wait_for("after_release", "asset_triggered", 1, ("success",))[-1]
    today = datetime.now(UTC).date()
    first, end = airflow.interval("after_release", triggered, "what_was_released")
    assert (first, end) in {(today - 7 * DAY, today), (today - DAY, today)}  # the demo's release, or the daily run's


def test_no_secret_shows_in_any_log(stack: Stack, first_demo: str) -> None:
    secrets = [*json.loads((stack.home / "passwords.json").read_text()).values()]
    keys = json.loads((stack.home / "keys.json").read_text())
    secrets += [value for name, value in keys.items() if name != "auditor"]
    logs = [path for path in (stack.home / "logs").rglob("*") if path.is_file()]
    assert logs
    shown = [path for path in logs for secret in secrets if secret in path.read_text(errors="replace")]
    assert shown == []


def test_port_in_use_is_one_sentence(stack: Stack, first_demo: str) -> None:
    with tempfile.TemporaryDirectory(prefix="lake-e2e-") as other:
        Path(other).chmod(0o755)
        taken = Stack(Path(other), {**stack.environment, "LAKE_HOME": other})
        done = taken.lake("up", "--detach")
        assert done.returncode == 1
        assert "is in use" in done.stderr
        assert "Traceback" not in done.stderr
        taken.lake("down")
