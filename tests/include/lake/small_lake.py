"""A small lake with a history: bronze by month and load, silver built twice, marts that were released."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.connections import Postgres
from include.lake import catalog
from include.lake.attach import Lake
from include.lake.catalog import File
from tests.include.release.building import Releasing, build, close_lake

LOADS = 4
LATER = datetime.now(UTC) + timedelta(days=40)  # everything here is old by then, but for what is retained


class SmallLake(Releasing):
    """`released` are the snapshots of its releases, in their order."""

    def __init__(self, lake: Lake, marts: Postgres) -> None:
        super().__init__(lake, marts)
        self.released: list[int] = []

    def make(self, releases: int) -> "SmallLake":
        statements = [f"create schema dl.{schema}" for schema in ("bronze", "silver", "meta")]
        statements += [
            "create table dl.meta.watermarks (model varchar, source_table varchar, load_seq bigint)",
            "create table dl.bronze.demo_events (site varchar, interval_date date, load_seq bigint, i bigint)",
            "alter table dl.bronze.demo_events set partitioned by (month(interval_date))",
        ]
        statements += [
            f"insert into dl.bronze.demo_events select 'a', date '2026-01-01' + (range % 59)::int, {load}, "
            f"range + {load * 1000} from range(1000)"
            for load in range(LOADS)
        ]
        statements += [
            "delete from dl.bronze.demo_events where i % 2 = 0 and load_seq = 0",
            "delete from dl.bronze.demo_events where i = 1001",
            "insert into dl.bronze.demo_events values ('b', '2026-01-05', 4, 1)",
        ]
        for version in (1, 2):
            statements += [
                f"create or replace table dl.silver.fct_event as select i, i % 7 as j, {version} as version "
                "from dl.bronze.demo_events",
                f"insert into dl.meta.watermarks values ('fct_event', 'demo_events', {version})",
            ]
        statements.append("insert into dl.meta.watermarks values ('fct_other', 'demo_events', 2)")
        self.write(*statements)
        for version in range(1, max(releases, 2) + 1):
            snapshot = build(self.lake, version, days=3000)
            if releases:
                self.release(snapshot)
                self.released.append(snapshot)
        self.close()
        return self

    def write(self, *statements: str) -> None:
        with self.lake.open() as connection:
            for statement in statements:
                connection.execute(statement)

    def close(self) -> None:
        close_lake()

    def tables(self) -> dict[str, list[tuple]]:
        with self.lake.open(read_only=True) as connection:
            return {
                table.name: connection.execute(f"from dl.{table.name} order by all").fetchall()
                for table in catalog.read(self.lake).tables
            }

    def released_rows(self) -> dict[int, list[tuple]]:
        """The rows of a mart at each release whose snapshot is kept."""
        kept = catalog.read(self.lake).snapshots
        with self.lake.open(read_only=True) as connection:
            return {
                snapshot: connection.execute(
                    f"from dl.gold.mrt_daily at (version => {snapshot}) order by all"
                ).fetchall()
                for snapshot in self.released
                if snapshot in kept
            }

    def live(self, table: str) -> list[File]:
        """The files that a table is read from now, the largest first."""
        files = [file for file in catalog.read(self.lake).live() if file.name == table and file.kind == "data"]
        return sorted(files, key=lambda file: -file.size)


def missing(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flipped(path: Path) -> None:
    """Other bytes where the rows are: size and footer stay."""
    content = bytearray(path.read_bytes())
    for place in range(60, 72):
        content[place] ^= 0xFF
    path.write_bytes(content)
