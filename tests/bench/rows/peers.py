"""Tools that people would use instead, each in an environment of its own, on the same rows of the same server."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from include.connections import Postgres
from tests.bench.places import Places
from tests.bench.results import WORKING
from tests.bench.rows.ingest import Operational, ingest_postgres, operational
from tests.bench.runner import BenchError
from tests.bench.spec import Clock, Row, Scale, Size

TABLE = "app.product_events"
DLT = """
import sys
import dlt
from dlt.sources.sql_database import sql_table

url, folder = sys.argv[1:]
target = dlt.destinations.duckdb(f"{folder}/peer.duckdb")
pipeline = dlt.pipeline("peer", destination=target, pipelines_dir=folder, dataset_name="source")
print(pipeline.run(sql_table(url, table="product_events", schema="app")))
"""
COUNT = """
import sys
import duckdb

print(duckdb.connect(sys.argv[1]).execute(f"select count(*) from {sys.argv[2]}").fetchone()[0])
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment of a tool's own."""

    name: str
    requirements: tuple[str, ...]

    def python(self) -> Path:
        return WORKING / "peers" / self.name / "bin" / "python"

    def install(self) -> None:
        """Make its environment, unless it is there.

        Raises:
            BenchError: it does not install here; its row is then not measured.
        """
        folder = self.python().parents[1]
        if (folder / "installed").exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        uv = str(Path(sys.executable).parent / "uv")
        for command in (
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            # No wheel of a tool's oldest DuckDB may fit this Python, and building one takes the better part of an hour.
            [
                uv,
                "pip",
                "install",
                "--quiet",
                "--only-binary",
                "duckdb",
                "--python",
                str(self.python()),
                *self.requirements,
            ],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchError(f"{self.name} does not install here: {done.stderr[-500:]}")
        (folder / "installed").touch()


@dataclass(frozen=True)
class Peer:
    """A tool that ingests: its command for a source's URL and a folder, and where the rows then are."""

    environment: Environment
    words: str
    command: Callable[[Path, str, Path], list[str]]
    found: tuple[str, str]


def _dlt(binaries: Path, url: str, folder: Path) -> list[str]:
    return [str(binaries / "python"), "-c", DLT, url.replace("postgresql:", "postgresql+psycopg2:"), str(folder)]


def _ingestr(binaries: Path, url: str, folder: Path) -> list[str]:
    target = ["--dest-uri", f"duckdb:///{folder}/peer.duckdb", "--dest-table", "main.product_events"]
    source = ["--source-uri", url, "--source-table", TABLE]
    return [str(binaries / "ingestr"), "ingest", *source, *target, "--yes", "--progress", "log"]


def _sling(binaries: Path, url: str, folder: Path) -> list[str]:
    target = ["--tgt-object", f"file://{folder}/peer.csv"]
    return [str(binaries / "sling"), "run", "--src-conn", url, "--src-stream", TABLE, *target]


PEERS = (
    Peer(
        Environment("dlt", ("dlt[duckdb,sql-database]==1.31.0", "psycopg2-binary")),
        "dlt 1.31.0 with its defaults, `sql_table` into DuckDB",
        _dlt,
        ("peer.duckdb", "source.product_events"),
    ),
    Peer(
        Environment("ingestr", ("ingestr==0.14.155",)),
        "ingestr 0.14.155 with its defaults, into DuckDB",
        _ingestr,
        ("peer.duckdb", "main.product_events"),
    ),
    Peer(
        Environment("sling", ("sling==1.4.10", "pyarrow")),
        "sling 1.4.10 with its defaults, into a CSV file (for Parquet it downloads a program)",
        _sling,
        (":memory:", "read_csv('{folder}/peer.csv')"),
    ),
)


@contextmanager
def with_peer(places: Places, size: Size, *, peer: Peer) -> Iterator[Operational]:
    peer.environment.install()
    with operational(places, size) as world:
        yield world


def ingest_by(world: Operational, clock: Clock, *, peer: Peer) -> int:
    """The tool as a process, from its start, into a place that is empty."""
    reader, folder = Postgres.of(world.reader), world.places.scratch()
    login = f"{quote(reader.user, safe='')}:{quote(reader.password or '', safe='')}"
    url = f"postgresql://{login}@/{reader.database}?host={quote(reader.host, safe='/')}"
    python = peer.environment.python()
    command = peer.command(python.parent, url, folder)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "INGESTR_DISABLE_TELEMETRY": "true",
        "DISABLE_TELEMETRY": "true",
        "SLING_DISABLE_TELEMETRY": "true",
    }
    with clock:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    said = (done.stdout + done.stderr)[-1500:].replace(reader.password or "-", "***")
    assert done.returncode == 0, said
    file, table = peer.found
    in_file = not file.startswith(":")  # which only its own version of DuckDB may read
    counter, database = (str(python), str(folder / file)) if in_file else (sys.executable, file)
    counting = [counter, "-c", COUNT, database, table.format(folder=folder)]
    counted = subprocess.run(counting, capture_output=True, text=True, check=False)
    assert counted.returncode == 0, counted.stderr[-500:]
    shutil.rmtree(folder, ignore_errors=True)
    return int(counted.stdout)


def _row(peer: Peer) -> Row:
    return Row(
        number="2",
        name=f"peer_{peer.environment.name}",
        ours="ingest from PostgreSQL into bronze",
        bound=peer.words,
        goal=None,
        sizes={Scale.FULL: (Size("1 M rows", 1_000_000),)},
        world=partial(with_peer, peer=peer),
        run=ingest_postgres,
        against=partial(ingest_by, peer=peer),
        runs={Scale.FULL: 1},
        note="below 1x, ours is quicker; the peer's start is in its time",
    )


ROWS = tuple(_row(peer) for peer in PEERS)
