"""The people who were erased, in `meta.erasures`: a keyed hash of each, which ingest asks so that nobody comes back.

A subject is a text (`site/id`, see `include.sources.subjects`). Its hash is keyed with the password of the connection
`<domain>_pseudonym` and hashed twice, as pseudonyms are; without the key nobody can tell who it was.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from include.errors import LakehouseError
from include.lake.attach import ALIAS, Lake, identifier, one_transaction, table_exists
from include.layers import META_SCHEMA

TABLE = "erasures"
NAME = f"{ALIAS}.{META_SCHEMA}.{TABLE}"
_COLUMNS = (
    "domain varchar not null, subject_hash varchar not null, requested_at timestamp with time zone not null, "
    "requested_by varchar not null, stage varchar not null, snapshot_id bigint, release_id bigint, "
    "entry_hash varchar, counts varchar, finished_at timestamp with time zone"
)
# What has been done of an erasure, in this order.
REQUESTED, TAKEN_OUT, REBUILT, RELEASED, PURGED, DONE = STAGES = (
    "requested",
    "taken out",
    "rebuilt",
    "released",
    "purged",
    "done",
)


@dataclass(frozen=True)
class Erasure:
    """One person's erasure. Times are in UTC.

    Attributes:
        stage: the last of STAGES that is done.
        snapshot_id: the snapshot that took the person out of bronze.
        release_id: the domain's release without the person; None if the domain had released nothing.
        counts: by table, the rows that went.
    """

    domain: str
    subject_hash: str
    requested_at: datetime
    requested_by: str
    stage: str
    snapshot_id: int | None
    release_id: int | None
    entry_hash: str | None
    counts: dict[str, int]
    finished_at: datetime | None

    def has(self, stage: str) -> bool:
        return STAGES.index(self.stage) >= STAGES.index(stage)


@dataclass(frozen=True)
class Erased:
    """Who must not come back: hashes, and the key that they were made with."""

    hashes: frozenset[str]
    key: str

    def __contains__(self, subject: str) -> bool:
        return subject_hash(self.key, subject) in self.hashes


def subject_hash(key: str, subject: str) -> str:
    """The keyed hash of a text, as `keyed_hash` of the dbt project makes it."""
    inner = hashlib.sha256((key + subject).encode()).hexdigest()
    return hashlib.sha256((key + inner).encode()).hexdigest()


def hash_sql(subject: str) -> str:
    """The same in DuckDB, of an SQL expression; the key is bound as `$key`."""
    return f"sha256($key || sha256($key || {subject}))"


def text_of(name: str) -> str:
    """A column's value as text."""
    return f"{identifier(name)}::varchar"


def subject_sql(columns: Sequence[str], site: str = "site", value: Callable[[str], str] = text_of) -> str:
    """The subject of a row. A row that lacks a part of it has none.

    Args:
        value: SQL for the value of a column, where it is not simply the column.
    """
    return " || '/' || ".join(site if name == "site" else value(name) for name in columns)


def listed(connection: duckdb.DuckDBPyConnection, domain: str | None = None) -> list[Erasure]:
    """Erasures, the oldest first; none if there is no record of any."""
    if not table_exists(connection, META_SCHEMA, TABLE):
        return []
    rows = connection.execute(
        "select domain, subject_hash, requested_at, requested_by, stage, snapshot_id, release_id, entry_hash, counts, "
        f"finished_at from {NAME} where $domain is null or domain = $domain order by requested_at, subject_hash",
        {"domain": domain},
    ).fetchall()
    return [Erasure(*row[:8], json.loads(row[8] or "{}"), row[9]) for row in rows]


def erased_subjects(connection: duckdb.DuckDBPyConnection, domain: str, get_connection: Any) -> Erased | None:
    """Who of a domain must not be loaded again; None if nobody was erased, and then no key is needed.

    Raises:
        SetupError: somebody was erased and the connection `<domain>_pseudonym` is missing.
    """
    hashes = frozenset(each.subject_hash for each in listed(connection, domain))
    if not hashes:
        return None
    from include import runtime

    return Erased(hashes, runtime.pseudonym_key(domain, get_connection))


def find(connection: duckdb.DuckDBPyConnection, domain: str, hashed: str) -> Erasure | None:
    """The erasure of a subject, if it was ever begun."""
    return next((each for each in listed(connection, domain) if each.subject_hash == hashed), None)


def begin(connection: duckdb.DuckDBPyConnection, domain: str, hashed: str, by: str) -> Erasure:
    """Record that a subject is to be erased; again if it is begun or was done before."""
    if not table_exists(connection, META_SCHEMA, TABLE):
        connection.execute(f"create schema if not exists {ALIAS}.{META_SCHEMA}")
        connection.execute(f"create table if not exists {NAME} ({_COLUMNS})")
    known = find(connection, domain, hashed)
    if known is None or known.finished_at is not None:
        with one_transaction(connection):
            connection.execute(f"delete from {NAME} where domain = ? and subject_hash = ?", [domain, hashed])
            connection.execute(
                f"insert into {NAME} (domain, subject_hash, requested_at, requested_by, stage) values (?, ?, ?, ?, ?)",
                [domain, hashed, datetime.now(UTC), by, REQUESTED],
            )
    found = find(connection, domain, hashed)
    assert found is not None
    return found


def advance(connection: duckdb.DuckDBPyConnection, erasure: Erasure, stage: str, **values: Any) -> Erasure:
    """Record that a stage is done, with what came of it."""
    counts = values.pop("counts", None)
    if counts is not None:
        values["counts"] = json.dumps(counts, sort_keys=True)
    names = ["stage", *values]
    connection.execute(
        f"update {NAME} set {', '.join(f'{name} = ?' for name in names)} where domain = ? and subject_hash = ?",
        [stage, *values.values(), erasure.domain, erasure.subject_hash],
    )
    found = find(connection, erasure.domain, erasure.subject_hash)
    assert found is not None
    return found


def to_json(erasure: Erasure) -> bytes:
    """What lies beside backups, so that a restore knows whom they hold and should not."""
    names = ("domain", "subject_hash", "requested_by")
    return json.dumps({name: getattr(erasure, name) for name in names}, sort_keys=True).encode()


def begin_again(lake: Lake, records: Collection[bytes]) -> list[Erasure]:
    """In a lake that was restored: begin each erasure that it does not have as finished, so that ingest knows of it.

    Returns:
        Those that are not finished: the lake holds these people until `lake forget` is given for each again.
    """
    if not records:
        return []
    with lake.open() as connection:
        for record in map(json.loads, records):
            known = find(connection, record["domain"], record["subject_hash"])
            if known is None:
                begin(connection, record["domain"], record["subject_hash"], record["requested_by"])
        return unfinished(connection)


def unfinished(connection: duckdb.DuckDBPyConnection) -> list[Erasure]:
    """Erasures that were begun and not ended: the person may still be somewhere."""
    return [each for each in listed(connection) if each.finished_at is None]


def verify(lake: Lake, entries: Collection[Any]) -> int:
    """Compare what the lake records of erasures with the ledger; returns how many there are.

    Args:
        entries: the ledger.

    Raises:
        LakehouseError: one is not finished, or the release that it names is not in the ledger.
    """
    known = {entry.release_id: entry.entry_hash for entry in entries}
    with lake.open(read_only=True) as connection:
        every = listed(connection)
    for each in every:
        name = f"The erasure {each.subject_hash[:12]} of {each.domain}"
        if each.finished_at is None:
            raise LakehouseError(f"{name} is not finished ({each.stage}); give its `lake forget` again.")
        if each.release_id is not None and known.get(each.release_id) != each.entry_hash:
            raise LakehouseError(
                f"{name} names release {each.release_id}, which the ledger does not have like that; compare both with "
                "a backup."
            )
    return len(every)
