"""What a suite is made of: checks on tables and rules on rows, as values. Nothing here touches a lake."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from typing import Any

from include.errors import SetupError
from include.interval import ONE_DAY, Interval
from include.layers import Layer

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_DAYS = re.compile(r"\{(?P<what>landed|around)\((?P<column>\w+)\)\}")
_TABLE = re.compile(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*")


class Severity(StrEnum):
    """What a check that does not hold does to its gate."""

    FAIL = "fail"
    WARN = "warn"


@dataclass(frozen=True)
class Rows:
    """Every row of the table (that `where` selects) satisfies `predicate`; null counts as broken.

    All of a table's `Rows` and `Measure` checks are answered by one scan.

    Args:
        show: what to show of a broken row; by default all of it.
        words: what is expected, where the SQL does not say it well.
    """

    predicate: str
    where: str = ""
    show: tuple[str, ...] = ()
    words: str = ""

    @property
    def expected(self) -> str:
        if self.words:
            return self.words
        rows = f"every row where {_one_line(self.where)}" if self.where else "every row"
        return f"{rows} has {_one_line(self.predicate)}"


@dataclass(frozen=True)
class Measure:
    """An aggregate over the table lies between two bounds, both included; null lies nowhere."""

    expression: str
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if self.minimum is None and self.maximum is None:
            raise SetupError(f"The measure {self.expression} has no bound and so could never fail; give one.")

    @property
    def expected(self) -> str:
        bounds = [f"at least {self.minimum:g}"] if self.minimum is not None else []
        bounds += [f"at most {self.maximum:g}"] if self.maximum is not None else []
        return f"{_one_line(self.expression)} is {' and '.join(bounds)}"


@dataclass(frozen=True)
class Query:
    """The query finds nothing: it selects what must not be. `expected` says so in words.

    `reads` names the tables it needs beside the check's own; one that is missing is reported as missing.
    """

    sql: str
    expected: str
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Core:
    """One of Great Expectations' own expectations, by class name. Regex, of_type and quantiles do not work here."""

    expectation: str
    arguments: Mapping[str, Any]
    expected: str


Test = Rows | Measure | Query | Core


@dataclass(frozen=True)
class Check:
    """One statement about one table that a gate verifies.

    Its SQL may use `{start}` and `{end}` (timestamps), `{first_day}` and `{end_day}` (dates, the end exclusive) of the
    run's interval, `{now}`, and two conditions on a column of UTC days: `{landed(column)}`, the days that the loads of
    the interval landed, and `{around(column)}`, those and the day before and after each, which they can change.

    Args:
        name: unique within the suite; what an operator reads first.
        table: `schema.table`.
        why: what goes wrong for somebody if this does not hold.
        breaks: SQL statements which, run on a copy of a sound lake, turn exactly this statement false. A check that
            nothing can turn red proves nothing, so one is required.
    """

    name: str
    table: str
    test: Test
    why: str
    breaks: tuple[str, ...]
    severity: Severity = Severity.FAIL

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SetupError(f"The check name {self.name!r} is not snake_case.")
        if not _TABLE.fullmatch(self.table):
            raise SetupError(f"The check {self.name} is on {self.table!r}; expected schema.table.")
        if not self.why:
            raise SetupError(f"The check {self.name} does not say why; whoever is on call will ask.")
        if not self.breaks:
            raise SetupError(f"The check {self.name} names no mutation that breaks it; give `breaks`.")

    @property
    def kind(self) -> str:
        """rows, measure, query or core."""
        return type(self.test).__name__.lower()

    @property
    def asks_interval(self) -> bool:
        """Whether it is about what a load must have brought for the interval, not about the days that landed."""
        test = self.test
        sql = " ".join(str(getattr(test, name, "")) for name in ("sql", "predicate", "where", "expression"))
        return any(placeholder in sql for placeholder in ("{start}", "{end}", "{first_day}", "{end_day}"))

    @property
    def reads(self) -> tuple[str, ...]:
        """Every table that it needs."""
        return (self.table, *(self.test.reads if isinstance(self.test, Query) else ()))


@dataclass(frozen=True)
class RowRule:
    """What a good row of a bronze table satisfies. A row for which it is false or null is set aside."""

    name: str
    predicate: str
    why: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or not self.why or not self.predicate.strip():
            raise SetupError(f"The row rule {self.name!r} needs a snake_case name, a predicate and a reason.")


@dataclass(frozen=True)
class Suite:
    """The checks of one domain on one layer and, for bronze, the rules on rows.

    Args:
        landed: bronze tables (without schema) that are loaded by windows; they say which days the run is about.
        within: of a table (with schema), the rows that its `Rows`, `Measure` and `Core` checks are about: a condition
            that partitions can be left out by. By default all.
        row_rules: by bronze table name (without schema).
        max_share: of a day's records in one table, the share that may be set aside before the gate is red instead.
        spare_rows: a day never turns the gate red for this few; a share of a handful of rows says nothing.
        lets_pass: by table (with schema), the ways to go bad that this suite need not see, each with the reason. The
            tests damage every table (`tests/include/quality/mutations.py`) and fail on any other that passes.
    """

    domain: str
    layer: Layer
    checks: tuple[Check, ...]
    landed: tuple[str, ...] = ()
    within: Mapping[str, str] = field(default_factory=dict)
    row_rules: Mapping[str, tuple[RowRule, ...]] = field(default_factory=dict)
    max_share: float = 0.05
    spare_rows: int = 5
    lets_pass: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _unique((check.name for check in self.checks), f"suite {self.domain} {self.layer}")
        for table, rules in self.row_rules.items():
            _unique((rule.name for rule in rules), f"row rules of {table}")
        if not 0 <= self.max_share < 1:
            raise SetupError(f"max_share of {self.domain} {self.layer} is {self.max_share}; expected 0 to below 1.")

    def without_load(self) -> "Suite":
        """For a run that loads nothing: the checks that do not ask what the interval's loads have brought."""
        return replace(self, checks=tuple(check for check in self.checks if not check.asks_interval))

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables with checks, in order of appearance."""
        return tuple(dict.fromkeys(check.table for check in self.checks))


@dataclass(frozen=True)
class Scope:
    """What a check's placeholders stand for in one run.

    Args:
        days: UTC days that the loads of the interval landed, as ranges with both ends included. By default the
            interval's; a look-back, late readings and whole streams add others.
        now: what `{now}` is, ISO.
    """

    interval: Interval
    now: str
    days: tuple[tuple[date, date], ...] = ()

    def fill(self, sql: str) -> str:
        """SQL with literals for the placeholders; other braces stay as they are."""
        for placeholder, value in self._moments().items():
            sql = sql.replace(placeholder, value)
        return _DAYS.sub(lambda found: self._days_sql(found["column"], 0 if found["what"] == "landed" else 1), sql)

    def words(self, text: str) -> str:
        """A sentence with dates for the placeholders."""
        for placeholder, value in self._moments().items():
            text = text.replace(placeholder, value.partition("'")[2].removesuffix("'"))
        return text

    def _moments(self) -> dict[str, str]:
        return {
            "{start}": f"timestamptz '{self.interval.start.isoformat()}'",
            "{end}": f"timestamptz '{self.interval.end.isoformat()}'",
            "{first_day}": f"date '{self.interval.start.date()}'",
            "{end_day}": f"date '{self.interval.end.date()}'",
            "{now}": f"timestamptz '{self.now}'",
        }

    def _days_sql(self, column: str, around: int) -> str:
        ranges = self.days or ((self.interval.start.date(), self.interval.end.date() - ONE_DAY),)
        spelled = " union all ".join(
            f"select unnest(range(date '{first - around * ONE_DAY}', date '{last + (around + 1) * ONE_DAY}', "
            "interval 1 day))::date"
            for first, last in ranges
        )
        # Not as "between ... or between ...", with which DuckLake reads every file.
        return f"{column} in ({spelled})"


def has_rows(table: str, *, due: str = "", reads: tuple[str, ...] = ()) -> Check:
    """The table holds rows; with `due` (a query for one number, of the tables `reads`), only if that is above zero."""
    why = "A check on an empty table passes without having seen anything."
    name = f"{_bare(table)}_has_rows"
    breaks = (f"delete from {table}",)
    if not due:
        test: Test = Core("ExpectTableRowCountToBeBetween", {"min_value": 1}, "the table holds at least one row")
    else:
        sql = (
            f"select rows_due, 0 as rows_found from (select ({due}) as rows_due) "
            f"where rows_due > 0 and not exists (select 1 from {table})"
        )
        test = Query(
            sql, f"the table holds rows, since its sources have rows for it: {_one_line(due)} is above 0", reads
        )
    return Check(name, table, test, why, breaks)


def no_nulls(
    table: str, *columns: str, why: str, name: str = "", among: str = "true", severity: Severity = Severity.FAIL
) -> Check:
    """None of the columns is null in any row. Not for what a dbt test or a contract states already.

    Name last a column that the table itself lets be null, for the mutation; `among` are the rows it may choose from.
    """
    predicate = " and ".join(f"{column} is not null" for column in columns)
    breaks = (f"update {table} set {columns[-1]} = null where rowid = (select min(rowid) from {table} where {among})",)
    name = name or f"{_bare(table)}_{columns[0]}_not_null"
    test = Rows(predicate, show=columns, words=f"a value in each row for {', '.join(columns)}")
    return Check(name, table, test, why, breaks, severity)


def rows(
    table: str,
    name: str,
    predicate: str,
    *,
    why: str,
    set_to: str,
    where: str = "",
    show: tuple[str, ...] = (),
    words: str = "",
    severity: Severity = Severity.FAIL,
) -> Check:
    """Every row satisfies the predicate; `set_to` is the assignment (`column = value`) that breaks it in one row."""
    one = f"rowid = (select min(rowid) from {table}{f' where {where}' if where else ''})"
    breaks = (f"update {table} set {set_to} where {one}",)
    return Check(f"{_bare(table)}_{name}", table, Rows(predicate, where, show, words), why, breaks, severity)


def between(
    table: str,
    column: str,
    minimum: float,
    maximum: float,
    *,
    why: str,
    nullable: bool = False,
    show: tuple[str, ...] = (),
    severity: Severity = Severity.FAIL,
) -> Check:
    """Every value lies within the bounds, both included. Null breaks it unless `nullable`."""
    predicate = f"{column} between {minimum:g} and {maximum:g}"
    return rows(
        table,
        f"{column}_in_range",
        f"({column} is null or {predicate})" if nullable else predicate,
        why=why,
        set_to=f"{column} = {maximum + 1:g}",
        show=(*show, column),
        words=f"{column} from {minimum:g} to {maximum:g} in each row{' that has one' if nullable else ''}",
        severity=severity,
    )


def _unique(names: Iterable[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise SetupError(f"{name} appears twice in the {where}; names must tell checks apart.")
        seen.add(name)


def _bare(table: str) -> str:
    return table.partition(".")[2]


def _one_line(sql: str) -> str:
    return " ".join(sql.split())
