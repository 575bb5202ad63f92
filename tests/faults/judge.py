"""What a fault did to the rows, and what it left behind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg

from include.lake import catalog
from include.lake.listing import stored
from include.lake.maintenance import Keep, Step, StepReport, maintain
from include.layers import MARTS_SCHEMA
from tests.pipeline.flow import TABLES, Flow, Rows

SWEEP = (Step.CLEANUP, Step.ORPHANS, Step.LEFTOVERS)


@dataclass(frozen=True)
class Difference:
    """Rows that are missing or too many, against a clean run; `examples` names some."""

    lost: int
    doubled: int
    compared: int
    examples: Sequence[str] = field(default_factory=tuple)

    def require_none(self) -> None:
        assert self.compared, "no row was compared"
        assert (self.lost, self.doubled) == (0, 0), (
            f"{self.lost} rows lost, {self.doubled} too many: {'; '.join(self.examples)}"
        )


def everything(flow: Flow) -> Rows:
    """Every row that anybody can read: silver, gold, the marts in PostgreSQL, the lake's views."""
    published = {f"postgres.{name}": rows for name, rows in flow.published_rows().items()}
    views = {f"{MARTS_SCHEMA}.{name}": rows for name, rows in flow.view_rows().items()}
    return {**flow.lake_rows(), **published, **views}


def compare(flow: Flow, clean: Rows) -> Difference:
    """Everything of a flow against what `everything` gave of an undisturbed run over the same days."""
    return difference(everything(flow), clean)


def difference(ours: Rows, clean: Rows) -> Difference:
    lost = doubled = compared = 0
    examples = []
    for table in {**clean, **ours}:
        found, expected = (Counter(map(repr, rows.get(table, ()))) for rows in (ours, clean))
        missing, extra = expected - found, found - expected
        lost, doubled, compared = lost + missing.total(), doubled + extra.total(), compared + expected.total()
        examples += [f"{table} lacks {row}" for row in list(missing)[:2]]
        examples += [f"{table} has {row}" for row in list(extra)[:2]]
    return Difference(lost, doubled, compared, tuple(examples[:6]))


def leftovers(flow: Flow) -> list[str]:
    """What no finished run leaves: files that nothing names, tables half made, spilled blocks, working folders."""
    found = []
    with flow.lake.open(read_only=True) as connection:
        known = catalog.read(flow.lake)
        named = {file.path for file in known.files} | known.scheduled.keys()
        found += [f"file {path}" for path in stored(flow.lake, connection) if path not in named]
        tables = connection.execute(
            "select schema_name || '.' || table_name from duckdb_tables() where database_name = 'dl' "
            "and table_name like '%\\_\\_dbt\\_%' escape '\\'"
        ).fetchall()
        found += [f"lake table {name}" for (name,) in tables]
    with psycopg.connect(flow.marts.conninfo(), password=flow.marts.password) as marts:
        ours = {f"{MARTS_SCHEMA}.{name}" for name in TABLES["gold"]} | {"ledger.releases"}
        query = "select schemaname || '.' || tablename from pg_tables where schemaname in ('ledger', 'marts')"
        found += [f"PostgreSQL table {name}" for (name,) in marts.execute(query) if name not in ours]
    for place in (flow.lake.temp_directory, flow.home / "dlt"):
        entries: Mapping = {path.name: path for path in place.iterdir()} if place.is_dir() else {}
        found += [f"{place.name}/{name}" for name in entries if not name.endswith(".lock")]
    return found


def forget_history(flow: Flow) -> None:
    """Let go of every snapshot but the newest and what readers see, once `sweep` has removed the rest.

    DuckLake's catalog has no indexes: after a thousand rounds, each would wait for it three times as long.
    """
    nothing = timedelta(0)
    keep = Keep(snapshots=nothing, releases=nothing, files=nothing)
    maintain(flow.lake, flow.marts, steps=(Step.EXPIRE, Step.CLEANUP), keep=keep, home=flow.home)


def sweep(flow: Flow) -> list[StepReport]:
    """Upkeep as `lake maintain` does it, as if the leftovers were old enough; afterwards there are none.

    No process may have the lake open for writing, this one included.
    """
    reports = maintain(flow.lake, flow.marts, steps=SWEEP, keep=Keep(files=timedelta(0)), home=flow.home)
    left = leftovers(flow)
    assert left == [], left
    return reports
