"""Putting a mart's rows into Postgres inside an open transaction, and proving that they arrived.

A mart's table is made once and then kept: its identity, grants, indexes and the views on it survive every release.
Only rows that differ are replaced, by delete and insert, so that readers neither wait nor see a half. Only a change of
columns locks readers out, and only until the transaction ends; where it rewrites the table, PostgreSQL shows it empty
to a transaction that is older and had not read it yet.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from include.dbt_project import Model
from include.errors import ReleaseError
from include.lake.attach import ALIAS, identifier, literal
from include.layers import MARTS_SCHEMA, Layer
from include.release.content_hash import ContentHash, Field, content_hash, select_list
from include.release.ledger import READER
from include.release.transaction import ATTACHED, Transaction

MAX_IDENTIFIER_BYTES = 63
SYSTEM_COLUMNS = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}
LOCK_TIMEOUT_SECONDS = 60
LOCK_TIMEOUT = "lock timeout"  # as PostgreSQL says it

POSTGRES_TYPES = {
    "BOOLEAN": "boolean",
    "SMALLINT": "smallint",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "VARCHAR": "text",
    "DATE": "date",
    "TIME": "time without time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "UUID": "uuid",
}
ADVICE = {
    "HUGEINT": "cast it to bigint or decimal(38,0); sum() of a bigint is a hugeint",
    "UHUGEINT": "cast it to bigint or decimal(38,0)",
    "UBIGINT": "cast it to bigint or decimal(20,0)",
    "JSON": "cast it to varchar",
    "BLOB": "encode it as text",
}
# A column may stay wider than its mart says (after a rollback), and may be widened in place.
WIDER = {
    "smallint": ("integer", "bigint"),
    "integer": ("bigint",),
    "real": ("double precision",),
}
FLOATS = {"FLOAT", "DOUBLE"}


@dataclass(frozen=True)
class Mart:
    """What is published under one name: columns in order with DuckDB types, the key, and words about them."""

    name: str
    key: tuple[str, ...]
    fields: tuple[Field, ...]
    description: str = ""
    descriptions: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        for name in (self.name, *names):
            length = len(name.encode())
            if length > MAX_IDENTIFIER_BYTES:
                raise ReleaseError(
                    f"Mart {self.name}: the name {name!r} has {length} bytes and PostgreSQL cuts names at "
                    f"{MAX_IDENTIFIER_BYTES}; shorten it."
                )
        for name in names:
            if name.lower() in SYSTEM_COLUMNS:
                raise ReleaseError(f"Mart {self.name}: PostgreSQL keeps the column name {name} to itself; rename it.")
        if not self.key:
            raise ReleaseError(f"Mart {self.name} states no key; put one under config.meta.key in its YAML.")
        for name in self.key:
            if name not in names:
                raise ReleaseError(f"Mart {self.name}: key column {name} is not among its columns {', '.join(names)}.")
        for field in self.fields:
            self.postgres_type(field)

    def postgres_type(self, field: Field) -> str:
        """The Postgres type of a column.

        Raises:
            ReleaseError: Postgres has none that holds every value.
        """
        known = POSTGRES_TYPES.get(field.type)
        if known:
            return known
        decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", field.type)
        if decimal:
            return f"numeric({decimal[1]},{decimal[2]})"
        advice = ADVICE.get(field.type, f"use one of {', '.join(sorted(POSTGRES_TYPES)).lower()} or decimal")
        raise ReleaseError(
            f"Mart {self.name}, column {field.name}: {field.type} cannot be published to PostgreSQL as it is; {advice}."
        )

    @property
    def table(self) -> str:
        """Its quoted name in Postgres."""
        return f"{MARTS_SCHEMA}.{identifier(self.name)}"

    def as_record(self, content: ContentHash) -> dict[str, Any]:
        """What the ledger keeps of it."""
        return {
            "rows": content.rows,
            "sha256": content.sha256,
            "key": list(self.key),
            "columns": [[field.name, field.type] for field in self.fields],
        }

    @classmethod
    def of_record(cls, name: str, record: Mapping[str, Any]) -> "Mart":
        """The mart as a ledger entry has it."""
        return cls(name, tuple(record["key"]), tuple(Field(*column) for column in record["columns"]))


@dataclass(frozen=True)
class Published:
    """What a publish did to one table. `replaced` counts rows that went, `written` rows that came."""

    mart: Mart
    content: ContentHash
    replaced: int
    written: int
    changes: tuple[str, ...]


def gold(name: str, snapshot_id: int) -> str:
    """A mart's table in the lake as it was at a snapshot, as something that may follow FROM."""
    return f"{ALIAS}.{Layer.GOLD}.{identifier(name)} at (version => {int(snapshot_id)})"


def mart_of(connection: duckdb.DuckDBPyConnection, model: Model, snapshot_id: int) -> Mart:
    """The mart that a dbt model describes, its contract compared with the lake at a snapshot.

    Raises:
        ReleaseError: the lake's table is missing or differs from the contract, or Postgres cannot hold it.
    """
    try:
        described = connection.execute(f"describe from {gold(model.name, snapshot_id)}").fetchall()
    except duckdb.CatalogException:
        raise ReleaseError(
            f"Mart {model.name} is not in the lake's gold schema at snapshot {snapshot_id}; run dbt and the gate again."
        ) from None
    found = {row[0]: row[1] for row in described}
    declared = {
        column.name: _duckdb_type(connection, model.name, column.name, column.data_type) for column in model.columns
    }
    for name in sorted(declared.keys() ^ found.keys()):
        here, there = ("its contract", "the lake") if name in declared else ("the lake", "its contract")
        raise ReleaseError(
            f"Mart {model.name}: column {name} is in {here} and not in {there}; make the model's YAML list exactly the "
            "columns that it builds."
        )
    for name, expected in declared.items():
        if found[name] != expected:
            raise ReleaseError(
                f"Mart {model.name}, column {name}: its contract says {expected} and the lake has {found[name]}; "
                "rebuild the model or correct its data_type."
            )
    return Mart(
        model.name,
        model.key,
        tuple(Field(name, type_) for name, type_ in declared.items()),
        model.description,
        {column.name: column.description for column in model.columns},
    )


def _duckdb_type(connection: duckdb.DuckDBPyConnection, mart: str, column: str, data_type: str) -> str:
    if not data_type:
        raise ReleaseError(f"Mart {mart}, column {column} has no data_type in its YAML; gold contracts need one.")
    try:
        return str(connection.execute(f"describe select cast(null as {data_type}) as value").fetchall()[0][1])
    except duckdb.Error as error:
        raise ReleaseError(f"Mart {mart}, column {column}: DuckDB knows no type {data_type!r}.") from error


def publish(
    transaction: Transaction,
    mart: Mart,
    snapshot_id: int,
    previous: Mapping[str, Any] | None,
    expected: ContentHash | None = None,
    allow_empty: bool = False,
) -> Published:
    """Make the Postgres table hold exactly the rows that the lake's gold table has, and read them back to be sure.

    Args:
        previous: the ledger's record of this mart in the last release that held it.
        expected: what the lake's rows must hash to (a rollback knows).
        allow_empty: no rows are fine even if the previous release had some.

    Raises:
        ReleaseError: nothing that was done may be committed; the message says what is wrong.
    """
    connection = transaction.connection
    source = gold(mart.name, snapshot_id)
    connection.execute(f"create or replace temp table incoming as select {select_list(mart.fields)} from {source}")
    _check_key(connection, mart)
    content = content_hash(connection, "temp.incoming", mart.fields, mart.key)
    if expected is not None and content != expected:
        raise ReleaseError(
            f"Mart {mart.name}: the lake's rows are not those that were released ({content.rows} rows, sha256 "
            f"{content.sha256[:16]}; the ledger says {expected.rows}, {expected.sha256[:16]}). Run `lake verify`, and "
            "restore the lake's files from a backup if the ledger holds."
        )
    if not content.rows and previous and previous["rows"] and not allow_empty:
        raise ReleaseError(
            f"Mart {mart.name} has no rows, and the previous release had {previous['rows']}; nothing was published. If "
            "it is right, allow it to be empty for this release."
        )
    live = _live_table(transaction, mart)
    changes = _changes(transaction, mart, live, previous)
    try:
        for change in changes:
            transaction.execute(change)
        transaction.forget_catalog()
        replaced, written, kept = _replace_rows(transaction, mart, keyless=not _has_key(live, mart))
        _describe(transaction, mart, live)
    except duckdb.Error as error:
        explanation = _explanation(mart, error)
        if explanation is None:
            raise
        raise ReleaseError(explanation, retryable=LOCK_TIMEOUT in str(error)) from error
    arrived = _arrived(transaction, mart, content, written, kept)
    if arrived.rows != content.rows:
        _check_unique(connection, mart)
        raise ReleaseError(
            f"Mart {mart.name}: {content.rows} rows in the lake and {arrived.rows} in PostgreSQL after publishing; "
            "nothing was published. Does the table have a trigger or a rule?"
        )
    if arrived.sha256 != content.sha256:
        raise ReleaseError(
            f"Mart {mart.name}: PostgreSQL gives other values back than it was given (sha256 {arrived.sha256[:16]}, "
            f"the lake's rows {content.sha256[:16]}); nothing was published. Does the table have a trigger?"
        )
    connection.execute("drop table temp.incoming")
    for scratch in ("live", "gone", "came"):
        connection.execute(f"drop table if exists temp.{scratch}")
    return Published(mart, content, replaced, written, tuple(c for c in changes if not c.startswith("set ")))


def _arrived(transaction: Transaction, mart: Mart, sent: ContentHash, written: int, kept: int) -> ContentHash:
    """The content hash of what Postgres gives back.

    Rows that are those of the lake to the bit have the same hash, and comparing takes a third of the time of hashing.
    """
    connection = transaction.connection
    if kept and _only_what_was_written_came(transaction, mart, sent, written):
        return sent
    connection.execute(f"create or replace temp table live as from {_published(transaction, mart)}")
    strangers = f"temp.live l anti join temp.incoming i on {_same_row(mart, 'l', 'i')}"
    # Keys are unique there, by its constraint: as many rows, and none that was not sent, are the rows that were sent.
    if _count(connection, "temp.live") == sent.rows and not _count(connection, strangers):
        return sent
    return content_hash(connection, "temp.live", mart.fields, mart.key)


def _only_what_was_written_came(transaction: Transaction, mart: Mart, sent: ContentHash, written: int) -> bool:
    """Whether the rows that this transaction put there are those that were to come, and none is missing.

    The rows that stay were compared when they were read, in this very transaction; they need not be read again.
    """
    if transaction.query(f"select count(*) from {mart.table}") != [(sent.rows,)]:
        return False
    came = _published(transaction, mart, "where xmin = pg_current_xact_id()::xid")
    transaction.connection.execute(f"create or replace temp table came as from {came}")
    strangers = f"temp.came c anti join temp.incoming i on {_same_row(mart, 'c', 'i')}"
    return _count(transaction.connection, "temp.came") == written and not _count(transaction.connection, strangers)


def published_content(transaction: Transaction, mart: Mart) -> ContentHash:
    """The content hash of what Postgres holds now."""
    return content_hash(transaction.connection, _published(transaction, mart), mart.fields, mart.key)


def table_exists(transaction: Transaction, name: str) -> bool:
    """Whether Postgres has a table for the mart."""
    return transaction.query(f"select to_regclass({literal(f'{MARTS_SCHEMA}.{identifier(name)}')}) is not null")[0][0]


# --- the table --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LiveColumn:
    number: int
    type: str
    generated: bool
    description: str


@dataclass(frozen=True)
class _Live:
    """The table as Postgres has it; no columns if there is none."""

    columns: Mapping[str, _LiveColumn]
    keys: tuple[tuple[str, ...], ...] = ()
    primary_key: str | None = None
    description: str = ""
    readable: bool = False


def _live_table(transaction: Transaction, mart: Mart) -> _Live:
    table = literal(mart.table)
    found = transaction.query(
        f"""
        select c.relkind::text, coalesce(obj_description(c.oid, 'pg_class'), ''),
               has_table_privilege('{READER}', c.oid, 'select')
        from pg_class c where c.oid = to_regclass({table})
        """
    )
    if not found:
        return _Live({})
    kind, description, readable = found[0]
    if kind not in ("r", "p"):
        raise ReleaseError(
            f"{mart.table} in PostgreSQL is not a table; drop or rename what is there, then release again."
        )
    columns = transaction.query(
        f"""
        select attname::text, attnum::int, format_type(atttypid, atttypmod), attgenerated::text <> '',
               coalesce(col_description(attrelid, attnum), '')
        from pg_attribute where attrelid = to_regclass({table}) and attnum > 0 and not attisdropped order by attnum
        """
    )
    indexes = transaction.query(
        f"""
        select i.indexrelid::bigint, i.indisprimary, coalesce(con.conname::text, ''), a.attname::text
        from pg_index i
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
        left join pg_constraint con on con.conindid = i.indexrelid and con.contype = 'p'
        where i.indrelid = to_regclass({table}) and i.indisunique and i.indpred is null and i.indexprs is null
          and i.indnkeyatts = i.indnatts
        """
    )
    keys: dict[int, list[str]] = {}
    for index, _, _, column in indexes:
        keys.setdefault(index, []).append(column)
    primary = next((constraint for _, is_primary, constraint, _ in indexes if is_primary), None)
    return _Live(
        {name: _LiveColumn(*rest) for name, *rest in columns},
        tuple(tuple(sorted(names)) for names in keys.values()),
        primary,
        description,
        readable,
    )


def _has_key(live: _Live, mart: Mart) -> bool:
    return tuple(sorted(mart.key)) in live.keys


def _changes(transaction: Transaction, mart: Mart, live: _Live, previous: Mapping[str, Any] | None) -> list[str]:
    """The statements that give the table the mart's columns, before its rows are replaced."""
    if not live.columns:
        columns = ", ".join(
            f"{identifier(field.name)} {mart.postgres_type(field)}{' not null' if field.name in mart.key else ''}"
            for field in mart.fields
        )
        return [f"create table {mart.table} ({columns})"]
    statements = []
    wanted = {field.name: mart.postgres_type(field) for field in mart.fields}
    ours = {name for name, _ in previous["columns"]} if previous else set()
    for name, column in live.columns.items():
        if name in wanted or column.generated:
            continue
        if name not in ours:
            raise ReleaseError(
                f"Mart {mart.name}: PostgreSQL has a column {name} that no release made; add it to the model or run "
                f"`alter table {mart.table} drop column {identifier(name)}`, then release again."
            )
        _refuse_dependents(transaction, mart, name, column, "is no longer in the mart")
        statements.append(f"alter table {mart.table} drop column {identifier(name)}")
    for name, type_ in wanted.items():
        column = live.columns.get(name)
        if column is None:
            statements.append(f"alter table {mart.table} add column {identifier(name)} {type_}")
        elif column.type != type_ and not _is_wider(column.type, type_):
            if not _is_wider(type_, column.type):
                raise ReleaseError(
                    f"Mart {mart.name}, column {name}: PostgreSQL has {column.type} and the mart says {type_}, which "
                    "is no widening; rename the column, or, if no reader needs the old one, run `alter table "
                    f"{mart.table} drop column {identifier(name)}` and release again."
                )
            _refuse_dependents(transaction, mart, name, column, f"must become {type_} and is {column.type}")
            statements.append(f"alter table {mart.table} alter column {identifier(name)} type {type_}")
    if live.primary_key and not _has_key(live, mart):
        statements.append(f"alter table {mart.table} drop constraint {identifier(live.primary_key)}")
    return [f"set local lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'", *statements] if statements else []


def _is_wider(type_: str, than: str) -> bool:
    """Whether `type_` holds every value of `than` and shows it in the same way."""
    if type_ in WIDER.get(than, ()):
        return True
    one, other = (re.fullmatch(r"numeric\((\d+),(\d+)\)", text) for text in (type_, than))
    return bool(one and other and one[2] == other[2] and int(one[1]) > int(other[1]))


def _refuse_dependents(transaction: Transaction, mart: Mart, name: str, column: _LiveColumn, why: str) -> None:
    views = transaction.query(
        f"""
        select distinct r.ev_class::regclass::text
        from pg_depend d join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
        where d.refclassid = 'pg_class'::regclass and d.refobjid = to_regclass({literal(mart.table)})
          and d.refobjsubid = {column.number} and r.ev_class <> d.refobjid
        order by 1
        """
    )
    if views:
        names = ", ".join(view for (view,) in views)
        raise ReleaseError(
            f"Mart {mart.name}: column {name} {why}, and these views in PostgreSQL read it: {names}. Change or drop "
            "them, release, and make them again."
        )


def _describe(transaction: Transaction, mart: Mart, live: _Live) -> None:
    """Grants and comments, where they are not as they should be: each change is a lock on the catalog."""
    if not live.readable:
        transaction.execute(f"grant select on {mart.table} to {READER}")
    if mart.description and mart.description != live.description:
        transaction.execute(f"comment on table {mart.table} is {_comment(mart.description)}")
    for name, text in (mart.descriptions or {}).items():
        column = live.columns.get(name)
        if text and (column is None or column.description != text):
            transaction.execute(f"comment on column {mart.table}.{identifier(name)} is {_comment(text)}")


def _comment(text: str) -> str:
    return literal(text.replace("\x00", ""))


# --- its rows ---------------------------------------------------------------------------------------------------


def _check_key(connection: duckdb.DuckDBPyConnection, mart: Mart) -> None:
    keys = ", ".join(identifier(name) for name in mart.key)
    nulls = " or ".join(f"{identifier(name)} is null" for name in mart.key)
    row = connection.execute(f"select count(*) filter (where {nulls}) from temp.incoming").fetchone()
    if row and row[0]:
        raise ReleaseError(f"Mart {mart.name}: {row[0]} rows have a null in the key ({keys}); a key has none.")


def _check_unique(connection: duckdb.DuckDBPyConnection, mart: Mart) -> None:
    keys = ", ".join(identifier(name) for name in mart.key)
    rows = connection.execute(
        f"select {keys} from temp.incoming group by {keys} having count(*) > 1 limit 1"
    ).fetchall()
    if rows:
        raise ReleaseError(_not_unique(mart, f"several rows have {', '.join(map(str, rows[0]))}."))


def _replace_rows(transaction: Transaction, mart: Mart, keyless: bool) -> tuple[int, int, int]:
    """Delete the rows that are not in the lake as they are, insert those that are not in Postgres.

    Returns how many rows went, came and stayed.
    """
    connection = transaction.connection
    columns = ", ".join(identifier(field.name) for field in mart.fields)
    target = f"{ATTACHED}.{MARTS_SCHEMA}.{identifier(mart.name)}"
    connection.execute(f"create or replace temp table live as from {_published(transaction, mart)}")
    before, after = _count(connection, "temp.live"), _count(connection, "temp.incoming")
    same = _same_row(mart, "l", "i")
    gone, source = 0, "temp.incoming i"
    if before:
        keys = ", ".join(f"l.{identifier(name)}" for name in mart.key)
        connection.execute(
            f"create or replace temp table gone as select {keys} from temp.live l anti join temp.incoming i on {same}"
        )
        gone = _count(connection, "temp.gone")
        source = f"temp.incoming i anti join temp.live l on {same}"
    if gone == before and gone:
        transaction.execute(f"delete from {mart.table}")
    elif gone:
        _delete_gone(transaction, mart)
    written = after - (before - gone)
    if written:
        connection.execute(f"insert into {target} ({columns}) select {columns} from {source}")
    if keyless:
        # After the rows: building the index at once is several times faster than row by row.
        keys = ", ".join(identifier(name) for name in mart.key)
        transaction.execute(f"alter table {mart.table} add primary key ({keys})")
    return gone, written, before - gone


def _delete_gone(transaction: Transaction, mart: Mart) -> None:
    keys = [field for field in mart.fields if field.name in mart.key]
    columns = ", ".join(f"{identifier(field.name)} {mart.postgres_type(field)}" for field in keys)
    transaction.execute(f"create unlogged table ledger.release_gone ({columns})")
    transaction.forget_catalog()
    names = ", ".join(identifier(field.name) for field in keys)
    transaction.connection.execute(
        f"insert into {ATTACHED}.ledger.release_gone ({names}) select {names} from temp.gone"
    )
    transaction.execute("analyze ledger.release_gone")
    match = " and ".join(f"l.{identifier(field.name)} = g.{identifier(field.name)}" for field in keys)
    transaction.execute(f"delete from {mart.table} l using ledger.release_gone g where {match}")
    transaction.execute("drop table ledger.release_gone")


def _same_row(mart: Mart, left: str, right: str) -> str:
    """Whether two rows are the same to the bit: -0.0 equals 0.0 and would stay."""
    conditions = []
    for field in mart.fields:
        one, other = (f"{side}.{identifier(field.name)}" for side in (left, right))
        if field.name in mart.key:
            conditions.append(f"{one} = {other}")
        else:
            conditions.append(f"{one} is not distinct from {other}")
        if field.type in FLOATS:
            conditions.append(f"signbit({one}) is not distinct from signbit({other})")
    return " and ".join(conditions)


def _published(transaction: Transaction, mart: Mart, where: str = "") -> str:
    columns = ", ".join(identifier(field.name) for field in mart.fields)
    source = transaction.relation(f"select {columns} from {mart.table} {where}")
    return f"(select {select_list(mart.fields)} from {source})"


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = connection.execute(f"select count(*) from {table}").fetchone()
    assert row is not None
    return row[0]


def _explanation(mart: Mart, error: duckdb.Error) -> str | None:
    text = str(error)
    if "0x00" in text or "null byte" in text.lower():
        return (
            f"Mart {mart.name}: a text holds a zero byte (chr(0)), which PostgreSQL cannot store; take it out in the "
            "model."
        )
    if "duplicate key" in text or "could not create unique index" in text:
        detail = re.search(r"Key \(.*", text)
        return _not_unique(mart, detail[0] if detail else "several rows share a key.")
    if LOCK_TIMEOUT in text:
        return (
            f"Mart {mart.name}: its columns change, and a long query has been reading it for "
            f"{LOCK_TIMEOUT_SECONDS} s (lock timeout); end that query or wait, then release again."
        )
    return None


def _not_unique(mart: Mart, detail: str) -> str:
    return (
        f"Mart {mart.name}: its key ({', '.join(mart.key)}) is not unique in the lake: {detail} "
        "Mend the model, and let gate_gold check the key."
    )


def with_words(mart: Mart, model: Model | None) -> Mart:
    """A mart from the ledger with the descriptions that today's model has for it."""
    if model is None:
        return mart
    names = {field.name for field in mart.fields}
    words = {column.name: column.description for column in model.columns if column.name in names}
    return replace(mart, description=model.description, descriptions=words)
