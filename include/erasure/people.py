"""Finding a person in bronze and quarantine by what the streams say of their subjects."""

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from include.errors import LakehouseError
from include.lake.attach import ALIAS, Lake, columns_of, identifier, table_exists
from include.lake.erasures import subject_hash, subject_sql, text_of
from include.layers import META_SCHEMA, QUARANTINE_SCHEMA, Layer
from include.sources.subjects import Subject

STAGING = f"{Layer.BRONZE}_staging"
APPLIED = "quarantine_applied"
# Shorter values are parts of too many words to be searched for by themselves.
SHORTEST_IDENTIFIER = 4


class SubjectError(LakehouseError):
    """There is no such person, or it is not clear who is meant."""


@dataclass(frozen=True)
class Person:
    """Somebody who is to be erased.

    Attributes:
        subject: `site/id`, or the site itself.
        identifiers: texts that point to nobody else, pseudonyms among them.
        shared: how many of the person's values point to others too, and are not searched for.
    """

    subject: str
    hashed: str
    identifiers: tuple[str, ...]
    shared: int = 0

    @property
    def short(self) -> str:
        """What it is called where the subject must not be named."""
        return self.hashed[:12]


@dataclass(frozen=True)
class Place:
    """A table of the lake that holds rows about people, and SQL for the subject of a row: null if it has none."""

    schema: str
    table: str
    subject: str

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def quoted(self) -> str:
        return f"{ALIAS}.{identifier(self.schema)}.{identifier(self.table)}"


def places(connection: duckdb.DuckDBPyConnection, subjects: Mapping[str, Subject]) -> list[Place]:
    """Every table that ingest and the bronze gate write rows about people to, of those that are there.

    Raises:
        SubjectError: a table lacks a column that its stream names.
    """
    found = []
    for table, subject in subjects.items():
        if not subject.columns:
            continue
        for schema in (Layer.BRONZE.value, STAGING):
            if table_exists(connection, schema, table):
                lacking = set(subject.columns) - {column.name for column in columns_of(connection, schema, table)}
                if lacking:
                    raise SubjectError(
                        f"{schema}.{table} has no column {', '.join(sorted(lacking))}, by which its stream says whose "
                        "its rows are; correct `subject` of the stream."
                    )
                found.append(Place(schema, table, subject_sql(subject.columns)))
        if table_exists(connection, QUARANTINE_SCHEMA, table):
            found.append(Place(QUARANTINE_SCHEMA, table, subject_sql(subject.columns, value=_in_payload)))
    of_sites = [table for table, subject in subjects.items() if subject.columns == ("site",)]
    if of_sites and table_exists(connection, META_SCHEMA, APPLIED):
        among = ", ".join(f"'{table}'" for table in of_sites)
        found.append(Place(META_SCHEMA, APPLIED, f"case when source_table in ({among}) then site end"))
    return found


def recall(connection: duckdb.DuckDBPyConnection, domain: str, wanted: str, key: str) -> Person | None:
    """A person who may be gone from the lake, of whom an erasure was begun: by the whole subject, `site/id`."""
    from include.lake.erasures import find

    hashed = subject_hash(key, wanted)
    if find(connection, domain, hashed) is None:
        return None
    return Person(wanted, hashed, (wanted,) if "/" not in wanted else ())


def look_up(lake: Lake, subjects: Mapping[str, Subject], wanted: str, key: str) -> Person | None:
    """The person as the lake knows them now; None if it knows nobody like that.

    Args:
        wanted: `site/id`, or the id alone where only one site has it.

    Raises:
        SubjectError: several sites have the id.
    """
    with lake.open(read_only=True) as connection:
        whose: set[str] = set()
        for place in places(connection, subjects):
            if place.schema == META_SCHEMA:
                continue
            rows = connection.execute(
                f"select distinct subject from (select {place.subject} as subject from {place.quoted}) "
                "where subject = $wanted or ends_with(subject, '/' || $wanted)",
                {"wanted": wanted},
            ).fetchall()
            whose |= {subject for (subject,) in rows}
        if wanted in whose:
            whose = {wanted}
        if len(whose) > 1:
            raise SubjectError(
                f"{wanted} is somebody in each of {', '.join(sorted(whose))}; say which, as --subject <site>/<id>."
            )
        if not whose:
            return None
        (subject,) = whose
        own, others = _identifiers(connection, subjects, subject)
    texts = {subject} if "/" not in subject else set()
    texts |= own - others
    texts |= {subject_hash(key, text.strip().lower()) for text in own - others}
    hashed = subject_hash(key, subject)
    # What the record calls the person by has to stay.
    return Person(subject, hashed, tuple(sorted(texts - {hashed})), len(own & others))


def _identifiers(
    connection: duckdb.DuckDBPyConnection, subjects: Mapping[str, Subject], subject: str
) -> tuple[set[str], set[str]]:
    """The person's identifying values, and those of them that others have too."""
    own: set[str] = set()
    others: set[str] = set()
    for place in places(connection, subjects):
        for name in subjects[place.table].identifiers if place.table in subjects else ():
            inside = place.schema == QUARANTINE_SCHEMA and name != "site"
            value = _in_payload(name) if inside else text_of(name)
            rows = connection.execute(
                f"select value, subject = $subject from (select {value} as value, {place.subject} as subject "
                f"from {place.quoted}) where length(value) >= {SHORTEST_IDENTIFIER} and value in (select {value} "
                f"from {place.quoted} where {place.subject} = $subject) group by all",
                {"subject": subject},
            ).fetchall()
            own |= {value for value, is_own in rows if is_own}
            others |= {value for value, is_own in rows if is_own is False}
    return own, others


def _in_payload(name: str) -> str:
    """The value of a column of a row in quarantine."""
    return f"json_extract_string(payload, '$.\"{name}\"')"
