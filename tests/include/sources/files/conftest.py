"""A drop, in a folder or in a bucket, and a lake that it is loaded into."""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.connections import Connection, Storage
from include.interval import Interval
from include.lake.attach import Lake
from include.lake.files import Files, s3_client
from include.sources.files.pipeline import ingest
from include.sources.files.streams import Format, Stream
from include.sources.listing import Listed
from include.sources.results import IngestResult

ASSAYS = Stream(
    "lab",
    "assays",
    "assays/*.csv",
    Format.CSV,
    ("assay_id",),
    types={"result": "DECIMAL(8,3)", "measured_at": "TIMESTAMPTZ"},
    overlap_days=1,
)
# Long ago enough for nobody to be writing to it.
OLD = datetime(2026, 11, 1, tzinfo=UTC).timestamp()


def days(first: int, end: int) -> Interval:
    """Days of November 2026, the end exclusive."""
    return Interval.of_days(date(2026, 11, first), date(2026, 11, end))


@dataclass
class World:
    """A drop and a lake."""

    lake: Lake
    storage: Storage
    folder: Path
    watch: duckdb.DuckDBPyConnection | None = None
    drops: list[Listed] = field(default_factory=list)

    def put(self, name: str, content: str | bytes, modified: float = OLD) -> None:
        """Drop a file, whole."""
        data = content.encode() if isinstance(content, str) else content
        if self.storage.is_s3:
            self._files().write(name, data)
            return
        path = Path(self.storage.url, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (modified, modified))

    def assays(self, day: int, *rows: str, name: str = "") -> None:
        """Drop the assays of a day: `id,result` each."""
        lines = [f"{row},2026-11-{day:02}T08:00:00Z" for row in rows]
        self.put(
            f"assays/{name or f'run_2026-11-{day:02}.csv'}", "\n".join(["assay_id,result,measured_at", *lines, ""])
        )

    def remove(self, name: str) -> None:
        self._files().delete([name])

    def ingest(self, interval: Interval, stream: Stream = ASSAYS, **options: Any) -> IngestResult:
        return ingest(
            options.pop("lake", self.lake),
            stream,
            interval,
            options.pop("drops", self.drops),
            self._connection,
            pipelines_dir=self.folder / "pipelines",
            **{"settle": 0.05} | options,
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the lake answers now."""
        if self.watch is None:
            self.watch = self.lake.open(read_only=True)
        return self.watch.execute(query).fetchall()

    def live(self, columns: str = "record_id, result::varchar", table: str = "lab_assays") -> list[tuple[Any, ...]]:
        return self.rows(
            f"select {columns} from bronze.{table} where record_id is not null and source_deleted_at is null "
            "order by record_id"
        )

    def close(self) -> None:
        if self.watch is not None:
            self.watch.close()
            self.watch = None

    def _files(self) -> Files:
        return Files.of(self.storage, self.folder / "temp")

    def _connection(self, conn_id: str) -> Connection:
        extra = {"url": self.storage.url, "endpoint_url": self.storage.endpoint, "region_name": self.storage.region}
        return Connection(conn_id, login=self.storage.key_id, password=self.storage.secret, extra=extra)


@pytest.fixture
def world(lake: Lake, tmp_path: Path) -> Iterator[World]:
    (tmp_path / "drop").mkdir()
    world = World(lake, Storage(str(tmp_path / "drop")), tmp_path, drops=[Listed("bench", "lab_bench")])
    yield world
    world.close()


@pytest.fixture
def bucket(lake: Lake, s3_server: Storage, tmp_path: Path) -> Iterator[World]:
    name = f"drop-{uuid.uuid4().hex[:12]}"
    s3_client(s3_server).create_bucket(Bucket=name)
    storage = Storage(f"s3://{name}/in", s3_server.endpoint, s3_server.region, s3_server.key_id, s3_server.secret)
    world = World(lake, storage, tmp_path, drops=[Listed("bench", "lab_bench")])
    yield world
    world.close()
