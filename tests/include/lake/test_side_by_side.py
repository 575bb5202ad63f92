"""Two processes that build models at once, as the pool of transformations lets them (docs/decisions/0005)."""

import itertools
import multiprocessing
import time
from multiprocessing.synchronize import Barrier

import pytest

from include.lake import fsck
from include.lake.attach import Lake

WATERMARKS = "dl.meta.watermarks"


def build_again_and_again(lake: Lake, model: str, rounds: int, start: Barrier) -> None:
    """Each round as dbt does: a table made anew, or days replaced in it; what was read is remembered in the same
    transaction. Few rows stay in the catalog, many become a file."""
    with lake.open() as connection:
        start.wait(60)
        for number in range(1, rounds + 1):
            remembered = 40 if number % 4 == 0 else 2
            connection.execute("begin")
            if number % 7 == 1:
                connection.execute(
                    f"create table dl.silver.{model}__new as select range as i, {number} as n from range(9000)"
                )
                connection.execute(f"drop table if exists dl.silver.{model}")
                connection.execute(f"alter table dl.silver.{model}__new rename to {model}")
            else:
                rows = 5 if number % 3 else 3000
                connection.execute(f"delete from dl.silver.{model} where i < {rows}")
                connection.execute(f"insert into dl.silver.{model} select range, {number} from range({rows})")
            connection.execute(
                f"insert into {WATERMARKS} "
                f"select '{model}', 'table_' || range, {number}, now() from range({remembered})"
            )
            connection.execute(f"call dl.set_commit_message('{model}', '{number}')")
            connection.execute("commit")
            connection.execute(f"create or replace view dl.bronze.stg_{model} as select {number} as n")
            time.sleep(0.05)  # what a model computes; without it one of them may always be first


@pytest.mark.parametrize(("processes", "rounds"), [(2, 16), pytest.param(3, 60, marks=pytest.mark.torture)])
def test_models_that_are_built_at_once_lose_and_double_nothing(lake: Lake, processes: int, rounds: int) -> None:
    models = [f"m{number}" for number in range(processes)]
    with lake.open() as connection:
        for schema in ("bronze", "silver", "meta"):
            connection.execute(f"create schema dl.{schema}")
        connection.execute(
            f"create table {WATERMARKS} (model varchar, source_table varchar, load_seq bigint, recorded_at timestamptz)"
        )
    del connection
    context = multiprocessing.get_context("forkserver")
    start = context.Barrier(processes)
    running = [context.Process(target=build_again_and_again, args=(lake, model, rounds, start)) for model in models]
    for process in running:
        process.start()
    for process in running:
        process.join(300)
    assert [process.exitcode for process in running] == [0] * processes

    remembered = sum(40 if number % 4 == 0 else 2 for number in range(1, rounds + 1))
    with lake.open() as connection:
        authors = connection.execute("select author from dl.snapshots() where author is not null order by snapshot_id")
        turns = sum(one != other for one, other in itertools.pairwise(authors.fetchall()))
        assert turns >= rounds // 2, "they wrote one after the other, so this shows nothing"
        for model in models:
            assert connection.execute(
                f"select count(*), count(distinct i), max(n), (from dl.bronze.stg_{model}) from dl.silver.{model}"
            ).fetchone() == (9000, 9000, rounds, rounds)
        for _ in ("as the processes left them", "after a flush"):
            assert connection.execute(
                f"select model, count(*), count(distinct load_seq) from {WATERMARKS} group by model order by model"
            ).fetchall() == [(model, remembered, rounds) for model in models]
            counted = connection.execute(f"select count(*) from {WATERMARKS}").fetchone()
            scanned = connection.execute(
                f"select count(*) from (select rowid from {WATERMARKS} group by rowid)"
            ).fetchone()
            assert counted == scanned == (processes * remembered,)
            connection.execute("call ducklake_flush_inlined_data('dl')")
    report = fsck.check(lake, deep=True)
    assert report.files > processes and not report.damage and not report.unknown
