"""Reading a release's very rows again, and proving that they are the same."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import duckdb

from include.connections import Postgres
from include.errors import ReleaseError, first_line
from include.lake import erasures
from include.lake.attach import Lake, identifier, literal
from include.release import ledger
from include.release.content_hash import ContentHash, content_hash, select_list
from include.release.ledger import Entry
from include.release.publish import Mart, gold, published_content, table_exists
from include.release.transaction import Transaction, attach_marts, require_snapshot

FORMATS = (".csv", ".parquet")


@dataclass(frozen=True)
class Reproduction:
    """A mart as a release published it; `content` is what the ledger says and the lake still has."""

    mart: str
    release_id: int
    snapshot_id: int
    content: ContentHash
    out: Path | None


def reproduce(lake: Lake, marts: Postgres, mart: str, release_id: int, out: Path | None = None) -> Reproduction:
    """Read a mart's rows at the snapshot of a release and compare their hash with the ledger's.

    Args:
        out: a `.csv` or `.parquet` file to write, which is the same byte for byte every time (Parquet: with the same
            version of DuckDB). The CSV is the canonical one: its sha256 is the hash in the ledger.

    Raises:
        ReleaseError: no such release or mart, its snapshot is gone, or the rows differ; no file is written then.
    """
    if out is not None and out.suffix not in FORMATS:
        raise ReleaseError(f"{out.name} ends in {out.suffix or 'nothing'}; expected {' or '.join(FORMATS)}.")
    entry = ledger.entry(marts, release_id)
    with lake.open(read_only=True) as connection:
        content = read_content(connection, entry, mart, out)
    return Reproduction(mart, release_id, entry.snapshot_id, content, out)


def read_content(
    connection: duckdb.DuckDBPyConnection, entry: Entry, name: str, out: Path | None = None
) -> ContentHash:
    """The content of a mart at a release's snapshot, written to `out` if given.

    Raises:
        ReleaseError: the release has no such mart, its snapshot is gone, or the rows are not those of the ledger.
    """
    record = entry.marts.get(name)
    if record is None:
        raise ReleaseError(f"Release {entry.release_id} has no mart {name}; it has {', '.join(sorted(entry.marts))}.")
    mart = Mart.of_record(name, record)
    _require_not_given_up(connection, entry)
    require_snapshot(connection, entry.snapshot_id)
    source = gold(name, entry.snapshot_id)
    with _written(out) as file:
        csv = file if out is not None and out.suffix == ".csv" else None
        try:
            content = content_hash(connection, source, mart.fields, mart.key, csv)
        except duckdb.Error as error:
            raise ReleaseError(
                f"Mart {name} of release {entry.release_id} cannot be read at snapshot {entry.snapshot_id}: "
                f"{first_line(error)} If its files are gone, restore them from a backup."
            ) from error
        if content != ContentHash(record["rows"], record["sha256"]):
            raise ReleaseError(
                f"Mart {name} of release {entry.release_id} does not reproduce: the lake's rows at snapshot "
                f"{entry.snapshot_id} are {content.rows} with sha256 {content.sha256[:16]}, the ledger says "
                f"{record['rows']} with {record['sha256'][:16]}. Run `lake verify`; if the ledger holds, the lake's "
                "files were changed: restore them from a backup."
            )
        if file is not None and csv is None:
            _write_parquet(connection, source, mart, Path(file.name))
        return content


def _require_not_given_up(connection: duckdb.DuckDBPyConnection, entry: Entry) -> None:
    """A release that an erased person was in cannot be read again, and that is meant."""
    for each in erasures.listed(connection, entry.domain):
        if each.release_id is not None and entry.release_id < each.release_id:
            raise ReleaseError(
                f"Release {entry.release_id} of {entry.domain} was given up when somebody was erased on "
                f"{each.requested_at:%Y-%m-%d} (erasure {each.subject_hash[:12]}): its rows are gone for good. Its "
                f"hashes stay in the ledger; release {each.release_id} holds everybody else."
            )


def published_differences(lake: Lake, marts: Postgres) -> list[str]:
    """What is wrong with the rows that Postgres holds now, against the ledger's last entry of each mart."""
    newest = {name: entry for entry in ledger.entries(marts) for name in entry.marts}
    problems = []
    with lake.open(read_only=True) as connection:
        attach_marts(connection, marts, read_only=True)
        connection.begin()
        for name, entry in sorted(newest.items()):
            opened, record = Transaction(connection), entry.marts[name]
            if not table_exists(opened, name):
                problems.append(f"Mart {name} of release {entry.release_id} is not in PostgreSQL.")
                continue
            content = published_content(opened, Mart.of_record(name, record))
            if content != ContentHash(record["rows"], record["sha256"]):
                problems.append(
                    f"Mart {name} in PostgreSQL is not what release {entry.release_id} published: {content.rows} rows "
                    f"with sha256 {content.sha256[:16]}, the ledger says {record['rows']} with {record['sha256'][:16]}."
                )
    return problems


@contextmanager
def _written(out: Path | None) -> Iterator[BinaryIO | None]:
    """A file that takes the name of `out` once it is whole."""
    if out is None:
        yield None
        return
    if not out.parent.is_dir():
        raise ReleaseError(f"There is no folder {out.parent} to write {out.name} into; make it first.")
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _write_parquet(connection: duckdb.DuckDBPyConnection, source: str, mart: Mart, path: Path) -> None:
    # One thread: how rows fall into row groups must not depend on the machine.
    connection.execute("set threads = 1")
    keys = ", ".join(identifier(name) for name in mart.key)
    connection.execute(
        f"copy (select {select_list(mart.fields)} from {source} order by {keys}) "
        f"to {literal(str(path))} (format parquet, compression zstd)"
    )
