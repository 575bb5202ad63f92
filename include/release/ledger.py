"""The ledger of releases: an append-only hash chain in the marts database, `ledger.releases`.

An entry's hash is sha256 over its canonical JSON, which includes the hash of the entry before it; so an entry cannot
be changed, taken out or moved without every later hash changing. Somebody who recomputes them all, or cuts off the
end, is found by the anchors: each release leaves its id and entry hash in the lake, in the commit message of the
snapshot that repointed the views and in the comments of those views.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from include.connections import Postgres
from include.errors import ReleaseError
from include.interval import Interval
from include.lake.attach import ALIAS, Lake
from include.lake.locks import take
from include.layers import MARTS_SCHEMA
from include.release.transaction import Transaction
from include.roles import require_role

READER = "marts_reader"
RELEASE, ROLLBACK, WITHDRAWAL = "release", "rollback", "withdrawal"
_KINDS = f"check (kind in ('{RELEASE}', '{ROLLBACK}', '{WITHDRAWAL}'))"

# Any number will do as long as every version of this code uses the same.
ADVISORY_LOCK = 5_205_311_964_770_001
LOCK_SECONDS = 900

TIMESTAMPS = ("interval_start", "interval_end", "released_at")
COLUMNS = {
    "release_id": "bigint primary key",
    "kind": f"text not null {_KINDS}",
    "domain": "text not null",
    "interval_start": "timestamptz not null",
    "interval_end": "timestamptz not null",
    "dag_run_id": "text not null",
    "code_version": "text not null",
    "snapshot_id": "bigint not null",
    "gates": "jsonb not null",
    "marts": "jsonb not null",
    "rolled_back_to": "bigint",
    "released_at": "timestamptz not null",
    "previous_hash": "text",
    "entry_hash": "text not null",
}

_ISO = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""
_ENTRY_JSON = "json_build_object({})::text".format(
    ", ".join(
        f"'{name}', to_char({name} at time zone 'UTC', {_ISO})" if name in TIMESTAMPS else f"'{name}', {name}"
        for name in COLUMNS
    )
)
_ALL = f"select {_ENTRY_JSON} from ledger.releases order by release_id"
_LAST = f"select {_ENTRY_JSON} from ledger.releases order by release_id desc limit 1"


class LedgerError(ReleaseError):
    """The chain does not hold; `release_id` is the first entry that is wrong."""

    def __init__(self, release_id: int, problem: str) -> None:
        super().__init__(
            f"{problem} The ledger was changed after the fact from entry {release_id} on: compare it with an exported "
            "copy or a backup."
        )
        self.release_id = release_id


@dataclass(frozen=True)
class Entry:
    """One release, rollback or withdrawal of a domain. Times are aware and in UTC.

    `marts` maps each mart to its `rows`, `sha256`, `key` and `columns` (name and DuckDB type), which is all that is
    needed to read the same rows again.
    """

    release_id: int
    kind: str
    domain: str
    interval_start: datetime
    interval_end: datetime
    dag_run_id: str
    code_version: str
    snapshot_id: int
    gates: list[dict[str, Any]]
    marts: dict[str, dict[str, Any]]
    rolled_back_to: int | None
    released_at: datetime
    previous_hash: str | None
    entry_hash: str

    @property
    def interval(self) -> Interval:
        """The days that it is about."""
        return Interval(self.interval_start, self.interval_end)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Entry":
        """From a row as the ledger's own JSON has it."""
        times = {name: datetime.fromisoformat(raw[name]) for name in TIMESTAMPS}
        return cls(**{name: raw[name] for name in COLUMNS} | times)

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable, as the ledger spells it."""
        return {name: getattr(self, name) for name in COLUMNS} | {
            name: timestamp(getattr(self, name)) for name in TIMESTAMPS
        }


@dataclass(frozen=True)
class Anchor:
    """What the lake remembers of a release; `where` says which snapshot or view."""

    release_id: int
    entry_hash: str
    where: str


@dataclass(frozen=True)
class Verification:
    """A chain that holds: how many entries, the last one's id and hash.

    `anchored` is how many marks in the lake agreed with it: None if the lake was not asked.
    """

    entries: int
    head: str
    anchored: int | None

    def __str__(self) -> str:
        lake = "the lake was not asked" if self.anchored is None else f"{self.anchored} marks in the lake agree"
        return f"{self.entries} entries, every hash holds, {lake}; the last entry is {self.head[:16]}."


def ensure(marts: Postgres) -> None:
    """Make the schemas, the ledger, its guard and the reading role's grants; repeatable.

    Raises:
        SetupError: the reading role does not exist; only an administrator can make it.
    """
    with _connect(marts) as connection, connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", [ADVISORY_LOCK + 1])
        require_role(connection, READER)
        for schema in ("ledger", MARTS_SCHEMA):
            # Asked first: an administrator may have made them for a role that may make none.
            if connection.execute("select to_regnamespace(%s)", [schema]).fetchone() == (None,):
                connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
            usable = connection.execute("select has_schema_privilege(%s, %s, 'usage')", [READER, schema]).fetchone()
            if usable != (True,):
                grant = sql.SQL("grant usage on schema {} to {}")
                connection.execute(grant.format(sql.Identifier(schema), sql.Identifier(READER)))
        if connection.execute("select to_regclass('ledger.releases')").fetchone() == (None,):
            _create(connection)
        else:
            _admit_kinds(connection)


def _create(connection: psycopg.Connection) -> None:
    columns = ", ".join(f"{name} {definition}" for name, definition in COLUMNS.items())
    connection.execute(f"create table ledger.releases ({columns})")
    connection.execute(
        """
        create or replace function ledger.refuse() returns trigger language plpgsql as $$
        begin
            raise exception 'The ledger is append-only: % of ledger.releases is refused.', lower(tg_op);
        end $$
        """
    )
    connection.execute(
        "create trigger append_only before update or delete or truncate on ledger.releases "
        "for each statement execute function ledger.refuse()"
    )
    connection.execute(
        "comment on table ledger.releases is 'What readers were given, release by release, as a hash chain; "
        "`lake verify` walks it.'"
    )
    connection.execute(f"grant select on ledger.releases to {READER}")


def _admit_kinds(connection: psycopg.Connection) -> None:
    """A ledger that was made before there were withdrawals takes them from now on."""
    narrow = connection.execute(
        "select conname from pg_constraint where conrelid = 'ledger.releases'::regclass and contype = 'c' "
        "and pg_get_constraintdef(oid) like '%%rollback%%' and pg_get_constraintdef(oid) not like %s",
        [f"%{WITHDRAWAL}%"],
    ).fetchone()
    if narrow is not None:
        name = sql.Identifier(narrow[0])
        change = sql.SQL("alter table ledger.releases drop constraint {}, add constraint {} " + _KINDS)
        connection.execute(change.format(name, name))


@contextmanager
def lock(marts: Postgres, seconds: int = LOCK_SECONDS) -> Iterator[None]:
    """Hold the right to release: one process at a time, whatever the domain, as the chain has one end.

    A killed process gives it up with its connection.

    Raises:
        ReleaseError: another process holds it for longer than `seconds`.
    """
    with _connect(marts) as connection:
        if not take(connection, [ADVISORY_LOCK], seconds):
            raise ReleaseError(
                f"Another release has been running for {seconds} s; wait for it to end and run this again."
            )
        yield


def append(transaction: Transaction, content: Mapping[str, Any]) -> Entry:
    """Add an entry at the end, inside the transaction that publishes.

    Args:
        content: every column but `release_id`, `previous_hash` and `entry_hash`; times as `timestamp` spells them.

    Raises:
        ReleaseError: what Postgres holds afterwards does not hash to what was computed.
    """
    rows = transaction.query(_LAST)
    before = json.loads(rows[0][0]) if rows else None
    raw = dict(content)
    raw["release_id"] = before["release_id"] + 1 if before else 1
    raw["previous_hash"] = before["entry_hash"] if before else None
    raw["entry_hash"] = entry_hash(raw)
    values = ", ".join(_postgres_literal(raw[name]) for name in COLUMNS)
    transaction.execute(f"insert into ledger.releases ({', '.join(COLUMNS)}) values ({values})")
    stored = json.loads(transaction.query(_LAST)[0][0])
    if stored["release_id"] != raw["release_id"] or entry_hash(stored) != raw["entry_hash"]:
        raise ReleaseError(f"Postgres changed entry {entry['release_id']} of the ledger as it was stored: {stored}.")
    return Entry.of(stored)


def entries(marts: Postgres, domain: str | None = None) -> list[Entry]:
    """The ledger, oldest first; empty if nothing was ever released."""
    return [Entry.of(raw) for raw in read(marts) if domain in (None, raw["domain"])]


def entry(marts: Postgres, release_id: int) -> Entry:
    """One entry.

    Raises:
        ReleaseError: there is none with that id.
    """
    known = entries(marts)
    for candidate in known:
        if candidate.release_id == release_id:
            return candidate
    end = f"the last is {known[-1].release_id}" if known else "nothing was released yet"
    raise ReleaseError(f"There is no release {release_id}; {end}. See `lake releases`.")


def last(marts: Postgres, domain: str) -> Entry | None:
    """What readers of the domain's marts are on, or None if it was never released."""
    known = entries(marts, domain)
    return known[-1] if known else None


def read(marts: Postgres) -> list[dict[str, Any]]:
    """The ledger's rows as they are stored, oldest first, for `verify_chain` and `export`."""
    with _connect(marts) as connection:
        return read_from(connection)


def read_from(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """The same, as an open connection sees it."""
    if connection.execute("select to_regclass('ledger.releases')").fetchone() == (None,):
        return []
    return [json.loads(row[0]) for row in connection.execute(_ALL)]


def pinned_snapshots(marts: Postgres, since: datetime | None = None) -> set[int]:
    """The lake snapshots that must not expire, as a release pins them.

    Args:
        since: let go of releases made before this time, except those that readers are on: for each mart that was ever
            published, the last release that holds it. By default every release is retained.
    """
    known = entries(marts)
    current = {(item.domain, mart): item.snapshot_id for item in known for mart in item.marts}
    retained = {item.snapshot_id for item in known if since is None or item.released_at >= since}
    return retained | set(current.values())


def export(marts: Postgres, path: Path) -> int:
    """Write the ledger as JSON lines, oldest first; returns how many."""
    return write_file(read(marts), path)


def write_file(chain: Sequence[Mapping[str, Any]], path: Path) -> int:
    """Write entries, as `read` gives them, to a file that `read_file` reads; returns how many."""
    path.write_text("".join(f"{canonical(raw)}\n" for raw in chain), encoding="utf-8")
    return len(chain)


def read_file(path: Path) -> list[dict[str, Any]]:
    """An exported ledger, in the file's order.

    Raises:
        ReleaseError: the file is missing, or a line of it is not an entry.
    """
    if not path.is_file():
        raise ReleaseError(f"There is no file {path}; `lake export-ledger` writes one.")
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            raw = json.loads(line)
        except ValueError:
            raise ReleaseError(f"Line {number} of {path} is not JSON; the file was cut or changed.") from None
        if not isinstance(raw, dict) or not COLUMNS.keys() <= raw.keys():
            raise ReleaseError(f"Line {number} of {path} lacks fields of a ledger entry; the file was changed.")
        found.append(raw)
    return found


def verify(marts: Postgres, lake: Lake | None = None) -> Verification:
    """Verify the ledger, against the lake's memory of it too if a lake is given. See `verify_chain`."""
    # The lake first: what it remembers was in the ledger before.
    marks = None if lake is None else anchors(lake)
    return verify_chain(read(marts), marks)


def verify_chain(chain: Sequence[Mapping[str, Any]], marks: Iterable[Anchor] | None = None) -> Verification:
    """Walk the chain from its beginning.

    Raises:
        LedgerError: an entry was changed, is missing, out of order or another than the lake remembers; it names the
            first such entry.
        ReleaseError: there is nothing to verify.
    """
    marks = None if marks is None else sorted(marks, key=lambda mark: mark.release_id)
    if not chain and not marks:
        raise ReleaseError("The ledger holds no release, so there is nothing to verify.")
    first_bad, problem = _first_break(chain)
    for mark in marks or []:
        if first_bad is not None and first_bad <= mark.release_id:
            break
        difference = _against(mark, chain)
        if difference:
            first_bad, problem = mark.release_id, difference
            break
    if first_bad is not None:
        raise LedgerError(first_bad, problem or "")
    return Verification(len(chain), chain[-1]["entry_hash"], None if marks is None else len(marks))


def anchors(lake: Lake) -> list[Anchor]:
    """The releases that the lake remembers, from commit messages and from the views' comments."""
    found = []
    with lake.open(read_only=True) as connection:
        commits = connection.execute(
            f"select snapshot_id, commit_extra_info from ducklake_snapshots('{ALIAS}') "
            "where commit_extra_info is not null order by snapshot_id"
        ).fetchall()
        views = connection.execute(
            "select view_name, comment from duckdb_views() "
            "where database_name = ? and schema_name = ? and comment is not null order by view_name",
            [ALIAS, MARTS_SCHEMA],
        ).fetchall()
    marks = [(f"snapshot {snapshot}", text) for snapshot, text in commits]
    marks += [(f"the comment of view {MARTS_SCHEMA}.{view}", text) for view, text in views]
    for where, text in marks:
        remembered = read_mark(text)
        if remembered:
            found.append(Anchor(remembered["release_id"], remembered["entry_hash"], where))
    return found


def lake_mark(item: Entry) -> str:
    """What a release leaves in the lake, for `anchors` to find."""
    fields = ("release_id", "entry_hash", "kind", "domain", "dag_run_id", "snapshot_id")
    return canonical({name: getattr(item, name) for name in fields})


def entry_hash(raw: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of everything in an entry but its own hash."""
    content = {name: raw[name] for name in COLUMNS if name != "entry_hash"}
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces. Whole numbers are written out, as jsonb does it."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def timestamp(value: datetime) -> str:
    """A time as the ledger spells it: UTC, to the microsecond."""
    if value.utcoffset() is None:
        raise ReleaseError(f"{value.isoformat()} has no time zone; the ledger takes times in UTC.")
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))  # the digits that jsonb makes of it
    return value


def _first_break(chain: Sequence[Mapping[str, Any]]) -> tuple[int | None, str | None]:
    previous = None
    for expected, raw in enumerate(chain, start=1):
        found = raw["release_id"]
        if found != expected:
            if expected in {other["release_id"] for other in chain[expected:]}:
                return expected, f"Entry {expected} is out of order: entry {found} stands in its place."
            return expected, f"Entry {expected} is missing: entry {found} stands in its place."
        if entry_hash(raw) != raw["entry_hash"]:
            return expected, f"Entry {expected} was changed after it was written: its content does not give its hash."
        if raw["previous_hash"] != previous:
            return expected, f"Entry {expected} does not follow entry {expected - 1}: the hash that it names differs."
        previous = raw["entry_hash"]
    return None, None


def _against(anchor: Anchor, chain: Sequence[Mapping[str, Any]]) -> str | None:
    if not 1 <= anchor.release_id <= len(chain):
        return f"Entry {anchor.release_id} is missing: the lake names it in {anchor.where}."
    if chain[anchor.release_id - 1]["entry_hash"] != anchor.entry_hash:
        return (
            f"Entry {anchor.release_id} is not the one that was released: the lake holds another hash of it in "
            f"{anchor.where}."
        )
    return None


def read_mark(text: str) -> dict[str, Any] | None:
    """What `lake_mark` wrote, or None for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return None  # other software writes comments and commit messages too
    if not isinstance(value, dict) or not isinstance(value.get("release_id"), int):
        return None
    return value if isinstance(value.get("entry_hash"), str) else None


def _postgres_literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    text = value if isinstance(value, str) else canonical(value)
    if "\x00" in text:
        raise ReleaseError(f"PostgreSQL cannot store a zero byte, and the ledger was given one: {text[:80]!r}.")
    return "'" + text.replace("'", "''") + "'"


def _connect(marts: Postgres) -> psycopg.Connection:
    return psycopg.connect(marts.conninfo(), password=marts.password, autocommit=True, application_name="lake release")
