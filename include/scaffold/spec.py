"""What is to be written, as values that refuse to be made wrong: columns, streams, marts."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from include.scaffold.names import ScaffoldError, check_name, is_free_text, is_personal, reserved_words
from include.sources.bronze import LINEAGE

# What bronze and staging add to each row.
OURS = frozenset({*LINEAGE, "source_deleted_at"})
COLUMN = re.compile(r"[a-z_][a-z0-9_]{0,49}")
TEXT = "varchar"
# Columns by which a source says that a row was deleted, and what their types begin with.
DELETION = {"deleted_at": ("timestamp", "date"), "is_deleted": ("boolean",)}
LONGEST_REASON = 70
LONGEST_LINE = 120
NUMBERS = ("smallint", "integer", "bigint", "double", "decimal")


@dataclass(frozen=True)
class Column:
    """A column of a source: its type there and in the lake (DuckDB's, lower case)."""

    name: str
    kind: str
    data_type: str

    @property
    def is_text(self) -> bool:
        return self.data_type == TEXT

    @property
    def is_number(self) -> bool:
        return self.data_type.startswith(NUMBERS)


@dataclass(frozen=True)
class Whose:
    """Whose the rows of a stream are.

    Attributes:
        columns: those that name the person, without the site; none: the rows are nobody's.
        why: of rows that are nobody's, the reason.
        personal: further columns that are to be hashed.
        clear: columns that look personal and are not.
    """

    columns: tuple[str, ...] = ()
    why: str = ""
    personal: tuple[str, ...] = ()
    clear: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stream:
    """One stream of a domain and the models that are made of it.

    Attributes:
        key: columns that name a record.
        cursor: column that grows with each change.
        day: column whose UTC day a record belongs to; a time that does not change. May be the cursor.
        is_fact: its rows are events or documents, not things that change.
        options: what else was said of how it is read; see `include.scaffold.kinds.Kind`.

    Raises:
        ScaffoldError: a name is not one, or a column is missing, reserved, or said nothing of though it looks personal.
    """

    domain: str
    name: str
    key: tuple[str, ...]
    cursor: str
    day: str
    columns: tuple[Column, ...]
    whose: Whose
    is_fact: bool = False
    options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        check_name("Stream", self.name)
        names = [column.name for column in self.columns]
        if not self.key:
            raise ScaffoldError(f"Stream {self.name} has no key; say which columns name a record.")
        self._check_names(names)
        self._check_people(names)

    @property
    def table(self) -> str:
        """Its table in bronze."""
        return f"{self.domain}_{self.name}"

    @property
    def staging(self) -> str:
        return f"stg_{self.domain}__{self.name}"

    @property
    def model(self) -> str:
        """Its model in silver."""
        return f"{'fct' if self.is_fact else 'dim'}_{self.domain}_{self.name}"

    @property
    def mart(self) -> str:
        """The mart that counts it."""
        return f"mrt_{self.domain}_{self.name}_daily"

    @property
    def day_date(self) -> str:
        """What models call the UTC day of a record."""
        name = f"{self.day.removesuffix('_at').removesuffix('_date').removesuffix('_on')}_date"
        return f"{name}_utc" if any(column.name == name for column in self.columns) else name

    @property
    def hashed(self) -> tuple[Column, ...]:
        """Columns that silver holds as keyed hashes."""
        if not self.whose.columns:
            return ()
        wanted = {*self.whose.personal, *(name for name in self._personal if name not in self.whose.clear)}
        return tuple(column for column in self.columns if column.name in wanted)

    @property
    def left(self) -> tuple[Column, ...]:
        """Columns that stay in bronze: in them anything may be written about a person."""
        if not self.whose.columns:
            return ()
        kept = {*self.whose.clear, *self.key, self.cursor, self.day, *(column.name for column in self.hashed)}
        return tuple(c for c in self.columns if is_free_text(c.name, c.kind) and c.name not in kept)

    @property
    def plain(self) -> tuple[Column, ...]:
        """Columns that silver holds as they are, the key first."""
        hidden = {column.name for column in (*self.hashed, *self.left)} | set(DELETION)
        shown = [column for column in self.columns if column.name not in hidden]
        return tuple(sorted(shown, key=lambda column: column.name not in self.key))

    @property
    def subject(self) -> tuple[str, ...]:
        """What names the person whose a row is; the site alone of rows that are nobody's."""
        return ("site", *self.whose.columns)

    @property
    def staged(self) -> tuple[Column, ...]:
        """Columns that staging takes as they are: all but those that say that a row was deleted."""
        return tuple(column for column in self.columns if column.name not in DELETION)

    @property
    def deleted_at(self) -> str:
        """SQL for when a row was deleted."""
        return "coalesce(deleted_at, source_deleted_at)" if self.has("deleted_at") else "source_deleted_at"

    @property
    def is_deleted(self) -> str:
        """SQL for whether it was."""
        at = f"{self.deleted_at} is not null"
        return f"coalesce(is_deleted, false) or {at}" if self.has("is_deleted") else at

    @property
    def record_id(self) -> str:
        """SQL for the id of the record that a row of the model is made of."""
        texts = [f"cast(this.{name} as varchar)" for name in self.key]
        return texts[0] if len(texts) == 1 else f"concat_ws('-', {', '.join(texts)})"

    def hashed_value(self, column: Column) -> str:
        """SQL for what is hashed of a column."""
        return f"lower(trim({column.name}))" if column.is_text else f"cast({column.name} as varchar)"

    def noqa(self, column: Column) -> str:
        """What tells the linter that the line of a hash is long, where it is."""
        length = len(
            f"        {{{{ keyed_hash('{self.domain}', '{self.hashed_value(column)}') }}}} as {column.name}_hash,"
        )
        return "  -- noqa: LT05" if length > LONGEST_LINE else ""

    def says(self, column: Column) -> str:
        """What a column is, as far as its place tells."""
        if column.name in self.key:
            return "Key of the source." if len(self.key) == 1 else "Part of the key of the source."
        if column.name == self.day:
            return "The time that a row belongs to a day by, UTC."
        if column.name == self.cursor:
            return "When it was last changed in the source, UTC."
        if column in self.hashed:
            return f"{_sentence(column.name)}, personal data."
        return f"{_sentence(column.name)}, as the source has it."

    @property
    def identifiers(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.hashed)

    def has(self, name: str) -> bool:
        return any(column.name == name for column in self.columns)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def _personal(self) -> list[str]:
        return [column.name for column in self.columns if is_personal(column.name)]

    def _check_names(self, names: list[str]) -> None:
        if odd := [name for name in names if not COLUMN.fullmatch(name)]:
            raise ScaffoldError(
                f"Stream {self.name} has columns {_listed(odd)}; bronze takes lower case letters, digits and _ only, "
                "and here at most 50 of them. Read a view that names them so."
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ScaffoldError(f"Stream {self.name} names {_listed(twice)} more than once.")
        if ours := sorted(set(names) & OURS):
            raise ScaffoldError(
                f"Stream {self.name} has columns {_listed(ours)}, which bronze uses for itself. Read a view that "
                "names them otherwise."
            )
        if words := sorted(set(names) & reserved_words()):
            raise ScaffoldError(
                f"Stream {self.name} has columns {_listed(words)}, which are words of SQL. Read a view that names "
                "them otherwise."
            )
        for name, expected in DELETION.items():
            if self.has(name) and not self.column(name).data_type.startswith(expected):
                raise ScaffoldError(
                    f"Column {name} of stream {self.name} is a {self.column(name).kind}; expected a {expected[0]}, "
                    "as models say by it which rows were deleted. Read a view that names it otherwise."
                )
        if missing := [name for name in (*self.key, self.cursor, self.day) if name not in names]:
            raise ScaffoldError(
                f"Stream {self.name} has no column {_listed(dict.fromkeys(missing))}, which is to be its key, its "
                f"cursor or its day; it has {_listed(names)}."
            )
        for role, name in (("cursor", self.cursor), ("day", self.day)):
            if not self.column(name).data_type.startswith(("timestamp", "date")):
                raise ScaffoldError(
                    f"The {role} of stream {self.name} is {name}, a {self.column(name).kind}; expected a time or a "
                    "date."
                )

    def _check_people(self, names: list[str]) -> None:
        whose = self.whose
        said = {*whose.columns, *whose.personal, *whose.clear}
        if missing := sorted(said - set(names)):
            raise ScaffoldError(f"Stream {self.name} has no column {_listed(missing)}; it has {_listed(names)}.")
        if both := sorted(set(whose.personal) & set(whose.clear)):
            raise ScaffoldError(f"Columns {_listed(both)} of {self.name} are said to be personal and not to be.")
        if not whose.columns and not whose.why:
            looks = f" {_listed(self._personal)} look as if they named one." if self._personal else ""
            raise ScaffoldError(
                f"Nobody said whose the rows of {self.name} are, without which a person cannot be forgotten.{looks} "
                f"Say `--subject {self.name}=COLUMN`, the column that names the person, or `--subject "
                f'"{self.name}=nobody: WHY"`.'
            )
        if len(whose.why) > LONGEST_REASON:
            raise ScaffoldError(
                f"Why the rows of {self.name} are nobody's takes more than {LONGEST_REASON} characters."
            )
        unsaid = [name for name in self._personal if name not in whose.clear]
        if not whose.columns and (unsaid or whose.personal):
            raise ScaffoldError(
                f"The rows of {self.name} are said to be nobody's ({whose.why}), but "
                f"{_listed([*unsaid, *whose.personal])} looks as if it named or addressed a person, and would reach "
                f"silver in the clear. Say whose it is (`--subject {self.name}=COLUMN`), or that it is nobody's: "
                f"`--clear {self.name}={','.join(unsaid)}`."
            )
        if keyed := [column.name for column in self.hashed if column.name in self.key]:
            raise ScaffoldError(
                f"Stream {self.name} is keyed by {_listed(keyed)}, which names or addresses a person, and a key "
                f"cannot be hashed. Read a view that has another key, or say `--clear {self.name}={','.join(keyed)}` "
                "if it names nobody."
            )
        made = {*(f"{column.name}_hash" for column in self.hashed), self.day_date}
        if clash := sorted(made & set(names)):
            raise ScaffoldError(f"Stream {self.name} has columns {_listed(clash)} already, which its models would add.")


@dataclass(frozen=True)
class Mart:
    """A mart that counts the rows of a silver model, and sums columns of it, by site and day.

    Attributes:
        of: the silver model.
        by: its columns, with types, that the mart has a row for: site and day first.
        sums: its columns, with types, that are summed.
        counts_deleted: it says which rows are deleted.
        noun: what its rows are.
    """

    domain: str
    name: str
    of: str
    by: tuple[Column, ...]
    noun: str
    sums: tuple[Column, ...] = ()
    counts_deleted: bool = True
    owner: str = "data-platform"

    def __post_init__(self) -> None:
        if not self.name.startswith("mrt_"):
            raise ScaffoldError(f"Mart {self.name!r} must begin with mrt_, such as mrt_{self.name.strip('_')}.")
        check_name("Mart", self.name.removeprefix("mrt_"))
        if not self.owner.strip():
            raise ScaffoldError(f"Mart {self.name} has no owner; say --owner TEAM.")

    @property
    def day(self) -> str:
        return self.by[1].name

    @property
    def count(self) -> str:
        return f"{self.noun}_count"

    @property
    def deleted(self) -> str:
        return f"deleted_{self.noun}_count"

    @property
    def measures(self) -> dict[str, str]:
        """Its columns beside the count, with their SQL."""
        deleted = {self.deleted: "count(*) filter (where is_deleted)"} if self.counts_deleted else {}
        return deleted | {
            total: f"cast(sum({column}) as {self.total_type(column).replace(',', ', ')})"
            for total, column in self.totals.items()
        }

    @property
    def explained(self) -> str:
        """Which rows of the model a row of the mart is counted from."""
        equal = (
            f"upstream.{column.name} {'=' if place < 2 else 'is not distinct from'} this.{column.name}"
            for place, column in enumerate(self.by)
        )
        return " and ".join(equal)

    def total_type(self, column: str) -> str:
        kind = next(each.data_type for each in self.sums if each.name == column)
        if kind.startswith("decimal"):
            return f"decimal(38,{kind.rstrip(')').partition(',')[2]})"
        return "double" if kind == "double" else "bigint"

    def says(self, column: Column) -> str:
        if column.name == "site":
            return "Id of the source."
        return "UTC day." if column.name == self.day else f"{_sentence(column.name)}, as {self.of} has it."

    @property
    def given(self) -> tuple[str, ...]:
        """Rows for its unit test, as YAML: two of a day, of which one is deleted, of the next day, of another site."""
        return tuple(
            self._row(place, site, day, {"is_deleted": deleted} if self.counts_deleted else {}, self.sums)
            for place, (site, day, deleted) in enumerate(
                (
                    ("a", "2026-03-01", "false"),
                    ("a", "2026-03-01", "true"),
                    ("a", "2026-03-02", "false"),
                    ("b", "2026-03-01", "false"),
                )
            )
        )

    @property
    def expected(self) -> tuple[str, ...]:
        """What the mart makes of them."""
        rows = []
        for site, day, count, deleted in (
            ("a", "2026-03-01", 2, 1),
            ("a", "2026-03-02", 1, 0),
            ("b", "2026-03-01", 1, 0),
        ):
            values = {self.count: str(count)} | ({self.deleted: str(deleted)} if self.counts_deleted else {})
            rows.append(self._row(0, site, day, values | {total: str(2 * count) for total in self.totals}, ()))
        return tuple(rows)

    def _row(self, place: int, site: str, day: str, values: dict[str, str], sums: tuple[Column, ...]) -> str:
        others = {column.name: _example(column) for column in self.by[2:]}
        cells = {"site": site, self.day: day} | others | values | {column.name: "2" for column in sums}
        return "{" + ", ".join(f"{name}: {value}" for name, value in cells.items()) + "}"

    @property
    def totals(self) -> dict[str, str]:
        """Columns that are sums, each with the column that it sums."""
        return {f"{column.name}_sum": column.name for column in self.sums}


@dataclass(frozen=True)
class Domain:
    """A domain: its streams, its marts, and how its source is called.

    Attributes:
        source: id of the one source that it begins with, `site` in every table.
        schema: of a database, the schema that holds the tables.
    """

    name: str
    streams: tuple[Stream, ...]
    marts: tuple[Mart, ...]
    source: str = "main"
    schema: str = "app"

    @property
    def is_personal(self) -> bool:
        return any(stream.identifiers for stream in self.streams)

    @property
    def subject_imports(self) -> str:
        """What streams.py needs of `include.sources.subjects`."""
        people = {bool(stream.whose.columns) for stream in self.streams}
        return ", ".join(name for name, used in (("Subject", True in people), ("nobody", False in people)) if used)

    @property
    def cursors(self) -> tuple[str, ...]:
        return tuple(f"`{self.schema}.{stream.name} ({stream.cursor})`" for stream in self.streams)

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple(f"{self.schema}.{stream.name}" for stream in self.streams)


def mart_of(stream: Stream, owner: str) -> Mart:
    """The mart that a domain begins with: a stream's rows by day."""
    by = (Column("site", TEXT, TEXT), Column(stream.day_date, "date", "date"))
    return Mart(stream.domain, stream.mart, stream.model, by, stream.name, owner=owner)


def _sentence(name: str) -> str:
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def _example(column: Column) -> str:
    if column.is_number:
        return "1"
    return {"boolean": "true", "date": "2026-03-01"}.get(
        column.data_type, "2026-03-01 00:00:00" if column.data_type.startswith("timestamp") else "x"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
