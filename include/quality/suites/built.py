"""Checks for tables that are built from what landed, and from each other: nothing was lost, nothing was added.

What a dbt test or a contract states of a table already (keys, not-nulls) is not repeated.
"""

from collections.abc import Mapping, Sequence

from include.layers import QUARANTINE_SCHEMA, Layer
from include.quality.checks import Check, Query, has_rows, rows

# For `lets_pass`: a gate does not repeat what dbt tests while it builds the table.
KEY_IS_TESTED = {"double a day": "dbt's key_is_unique fails the task that builds the table"}


def landing(table: str) -> tuple[str, str]:
    """A bronze table and what was set aside of it, with their schemas."""
    return f"{Layer.BRONZE}.{table}", f"{QUARANTINE_SCHEMA}.{table}"


def passed(table: str, where: str = "true") -> str:
    """Records of a bronze table that were not set aside, as staging has them; for a `from`."""
    bronze, aside = landing(table)
    return (
        f"(select * from {bronze} where record_id is not null and {where}) as passed_{table} anti join {aside} "
        "using (site, interval_date, record_id, load_seq)"
    )


def due(table: str, where: str = "true") -> str:
    """How many records passed; for `has_rows`."""
    return f"select count(*) from {passed(table, where)}"


def one_to_one(
    built: str,
    key: Sequence[str],
    table: str,
    where: str = "true",
    *,
    value: str = "",
    among: str = "",
    reads: Sequence[str] = (),
    day: str = "",
) -> Check:
    """Each record of a bronze table that passed has its row, with the same value, and each row its record.

    Args:
        built: with its schema.
        key: columns that make the record's id.
        among: what a record must satisfy besides, of the tables `reads`.
        day: column of UTC days; then only those that changed are looked at.
    """
    shown = f", {value}" if value else ""
    source = f"select site, record_id{shown} from {passed(table, where)}"
    if among:
        source += f" where {among}"
    found = f"select site, {record_id(key)} as record_id{shown} from {built}"
    if day:
        source += " where {around(interval_date)}"
        found += f" where {{around({day})}}"
    using = f"site, record_id{shown}"
    return Check(
        name=f"{_bare(built)}_is_what_passed",
        table=built,
        test=Query(
            sql=f"with landed as ({source}), built as ({found}) "
            f"select 'not built' as problem, {using} from landed anti join built using ({using}) "
            f"union all select 'not in bronze' as problem, {using} from built anti join landed using ({using})",
            expected=f"a row for each record of {table} that passed{f', with the same {value}' if value else ''}, "
            "and no other",
            reads=(*landing(table), *reads),
        ),
        why="A row without its source cannot be explained; a record without its row is missing from every mart.",
        breaks=(f"delete from {built} where rowid = (select min(rowid) from {built})",),
    )


def record_id(key: Sequence[str]) -> str:
    """SQL for the id that ingest gives a record, from the columns of its key."""
    texts = [f"{column}::varchar" for column in key]
    return texts[0] if len(texts) == 1 else f"concat_ws('-', {', '.join(texts)})"


def pseudonymised(built: str, key: Sequence[str], table: str, personal: Sequence[str]) -> tuple[Check, ...]:
    """What identifies a person shows as a hash, which nobody can compute without the key.

    Args:
        key: columns that name a row of the table.
        personal: columns of the bronze table, each hashed in a column `<name>_hash`.
    """
    hashes = {f"{column}_hash": column for column in personal}
    first, source = next(iter(hashes.items()))
    shown = ("site", *key)
    columns = ", ".join(sorted({*key, *personal}))
    hashed = " or ".join(
        f"{name} in (sha256({column}::varchar), sha256(lower(trim({column}::varchar))))"
        for name, column in hashes.items()
    )
    return (
        rows(
            built,
            "shows_no_person",
            " and ".join(f"coalesce(regexp_full_match({name}, '[0-9a-f]{{64}}'), true)" for name in hashes),
            why="Whatever is no hash may be a name or an address in the clear.",
            set_to=f"{first} = 'ada@example.org'",
            show=shown,
            words=f"64 hexadecimal digits, or nothing, for {', '.join(hashes)} of each row",
        ),
        Check(
            name=f"{_bare(built)}_is_hashed_with_a_key",
            table=built,
            test=Query(
                sql=f"select {', '.join(shown)} from {built} inner join (select site, {columns} from "
                f"{passed(table)}) as landed using ({', '.join(shown)}) where {hashed}",
                expected="no hash that who knows the value can compute without the key",
                reads=landing(table),
            ),
            why="Whoever has a list of addresses finds out who is who.",
            breaks=(
                f"update {built} set {first} = (select sha256(lower(trim({source}::varchar))) from "
                f"{landing(table)[0]} where record_id = {record_id([f'{built}.{column}' for column in key])} "
                f"and {source} is not null limit 1)",
            ),
        ),
    )


def agrees(
    built: str,
    name: str,
    found: str,
    source: str,
    by: str,
    values: str,
    expected: str,
    *,
    reads: tuple[str, ...],
    why: str,
    breaks: str,
) -> Check:
    """Two queries, of the table and of what it is built from, each with the columns `by` and `values`, give the same
    rows."""
    using = f"{by}, {values}"
    return Check(
        name=f"{_bare(built)}_{name}",
        table=built,
        test=Query(
            sql=f"with built as ({found}), source as ({source}) "
            f"(select 'in the mart only' as problem, {using} from (select {using} from built except all "
            f"select {using} from source)) union all (select 'not in the mart' as problem, {using} from "
            f"(select {using} from source except all select {using} from built)) order by all",
            expected=expected,
            reads=reads,
        ),
        why=why,
        breaks=(breaks,),
    )


def from_records(built: str, key: Sequence[str], table: str, *, personal: Sequence[str] = ()) -> tuple[Check, ...]:
    """All that must hold for a model with a row for each record of a bronze table, deleted ones included.

    Args:
        personal: see `pseudonymised`.
    """
    return (
        has_rows(built, due=due(table), reads=landing(table)),
        one_to_one(built, key, table),
        *(pseudonymised(built, key, table, personal) if personal else ()),
    )


def counted(
    mart: str, of: str, by: Sequence[str], counts: str, sums: Mapping[str, str] | None = None
) -> tuple[Check, ...]:
    """All that must hold for a mart that counts and sums the rows of a table.

    Args:
        by: columns that the mart has a row for.
        counts: its column that counts rows.
        sums: its columns that sum, each with the column of the table.
    """
    listed = ", ".join(by)
    values = {counts: "count(*)"} | {name: f"sum({column})" for name, column in (sums or {}).items()}
    spelled = ", ".join(f"{sql} as {name}" for name, sql in values.items())
    names = ", ".join(values)
    return (
        has_rows(mart, due=f"select count(*) from {of}", reads=(of,)),
        agrees(
            mart,
            "counts_each_row",
            f"select {listed}, {names} from {mart}",
            f"select {listed}, {spelled} from {of} group by all",
            listed,
            names,
            f"for each {listed} as many rows{' and as much' if sums else ''} as {of} has",
            reads=(of,),
            why="What a mart counts twice or not at all is wrong in every report that is made of it.",
            breaks=f"update {mart} set {counts} = {counts} + 1",
        ),
    )


def _bare(table: str) -> str:
    return table.partition(".")[2]
