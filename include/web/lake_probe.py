"""What the lake answers, asked in a process of its own: one that hangs or crashes must not take Airflow's with it."""

import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.connections import Postgres, Storage
from include.errors import LakehouseError
from include.settings import ROOT

if TYPE_CHECKING:
    from include.lake.attach import Lake

ANSWER_SECONDS = 15.0
_PIN = re.compile(r"at\s*\(\s*version\s*=>\s*(\d+)\s*\)", re.IGNORECASE)


class NoAnswerInTime(LakehouseError):
    """The lake may be well or not; there was no time to see."""


@dataclass(frozen=True)
class View:
    """A view that readers of the lake use: the snapshot that it shows, and its rows or why it cannot be read."""

    pinned_to: int | None
    rows: int | None
    error: str = ""


@dataclass(frozen=True)
class LakeAnswer:
    """The last snapshot, when it was written (ISO, UTC), the views in `marts`, and the marks that releases left."""

    snapshot_id: int
    written_at: str
    views: dict[str, View]
    anchors: list[dict[str, Any]]


def ask(lake: "Lake", *, seconds: float = ANSWER_SECONDS) -> LakeAnswer:
    """Open the lake read-only and look.

    Raises:
        NoAnswerInTime: it did not answer in `seconds`.
        LakehouseError: it answered with an error, which the message holds.
    """
    question = json.dumps(asdict(lake), default=str)  # on stdin, as it holds passwords
    try:
        done = subprocess.run(
            [sys.executable, "-m", "include.web.lake_probe"],
            input=question,
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=ROOT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoAnswerInTime(f"The lake did not answer within {seconds:g} s.") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the process ended with status {done.returncode}"]
        raise LakehouseError(f"The lake does not answer: {lines[-1]}")
    answer = json.loads(done.stdout)
    views = {name: View(**view) for name, view in answer["views"].items()}
    return LakeAnswer(**{**answer, "views": views})


def _main() -> None:
    from include.lake.attach import Lake

    values = json.load(sys.stdin)
    lake = Lake(
        **{
            **values,
            "catalog": Postgres(**values["catalog"]),
            "storage": Storage(**values["storage"]),
            "extensions": Path(values["extensions"]),
            "temp_directory": Path(values["temp_directory"]),
        }
    )
    json.dump(asdict(look(lake)), sys.stdout)


def look(lake: "Lake") -> LakeAnswer:
    """Open the lake read-only in this process and look. Raises whatever DuckDB raises."""
    import duckdb

    from include.lake.attach import identifier
    from include.release import ledger

    with lake.open(read_only=True) as connection:
        snapshot_id, written_at = connection.execute(
            "select snapshot_id, snapshot_time::timestamptz::varchar from ducklake_snapshots('dl') "
            "order by snapshot_id desc limit 1"
        ).fetchone()
        found = connection.execute(
            "select view_name, sql from duckdb_views() where database_name = 'dl' and schema_name = 'marts' order by 1"
        ).fetchall()
        views = {}
        for name, definition in found:
            pin = _PIN.search(definition or "")
            rows, problem = None, ""
            try:
                (rows,) = connection.execute(f"select count(*) from dl.marts.{identifier(name)}").fetchone()
            except duckdb.Error as error:
                problem = str(error).strip().splitlines()[0]
            views[name] = View(int(pin[1]) if pin else None, rows, problem)
    return LakeAnswer(snapshot_id, written_at, views, [asdict(anchor) for anchor in ledger.anchors(lake)])


if __name__ == "__main__":
    _main()
