"""What files of one kind must tell for their rows to be found again, as a frozen spec."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from fnmatch import fnmatchcase

from include.sources.subjects import Subject
from include.sources.types import UTC_TIME, Epoch, canonical_all, member

FILE_DATE = "file_date"
# Names of files that are still being written, as their writers tell.
UNFINISHED = ("*.part", "*.partial", "*.tmp", "*.temp", "*.crdownload", "*.filepart", "*~", ".*", "_*")
# A time of four or six digits may follow.
DATE = re.compile(
    r"(?<!\d)(?P<year>20\d\d)[-_.]?(?P<month>0[1-9]|1[0-2])[-_.]?(?P<day>0[1-9]|[12]\d|3[01])(?=\D|$|\d{4}(\d\d)?(\D|$))"
)


class Format(StrEnum):
    CSV = "csv"
    JSON_LINES = "json lines"
    PARQUET = "parquet"


class Dated(StrEnum):
    """Where a file's day comes from, which decides the interval that takes it."""

    NAME = "the date in its name"
    MODIFIED = "when it was last written"


class Due(StrEnum):
    """When it is an error that there is no file."""

    EVERY_DAY = "a file every day"
    EVERY_INTERVAL = "a file every interval"
    NEVER = "files come or do not"


@dataclass(frozen=True)
class Csv:
    """How a CSV file is written. Every one has a header.

    Attributes:
        encoding: utf-8, latin-1 or utf-16.
        decimal: what stands before a fraction.
        times: formats (`strptime`) of columns that are not written as 2026-11-01 or 2026-11-01 12:00:00+00.
    """

    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    decimal: str = "."
    times: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or len(self.quote) != 1:
            raise ValueError("A delimiter and a quote of CSV are one character each.")
        if self.encoding not in ("utf-8", "latin-1", "utf-16"):
            raise ValueError(f"CSV has encoding {self.encoding!r}; expected utf-8, latin-1 or utf-16.")
        if self.decimal not in (".", ","):
            raise ValueError(f"CSV has decimal {self.decimal!r}; expected . or ,")


@dataclass(frozen=True)
class Stream:
    """Files of one kind.

    Attributes:
        domain: the first part of the bronze table's name.
        name: the rest of it.
        files: which files, as a pattern of their paths below the drop: `*.csv`, `assays/**/*.parquet`.
        format: what they are.
        key: columns that tell rows apart, over all files; of two files with a key, the later (day, then name) counts.
            Empty: each row of each file is one of its own.
        day: column whose UTC day a row belongs to; by default `file_date`, the file's day.
        dated: where a file's day comes from.
        types: DuckDB's types of columns. Of CSV, other columns are text; a cell of another type is an error that names
            file, line and column.
        variants: declared columns of CSV whose cells may be of another type: they land as null, and their text in
            `<column>__v_text`, where a row rule of `gate_bronze` can set the row aside.
        due: when it is an error that there is no file.
        csv: how CSV is written.
        epoch: what a number of JSON means that is a time.
        overlap_days: days before the interval whose files are looked at again, for those that come late or change.
        subject: who the rows are about.
    """

    domain: str
    name: str
    files: str
    format: Format
    key: tuple[str, ...] = ()
    day: str = FILE_DATE
    dated: Dated = Dated.NAME
    types: Mapping[str, str] = field(default_factory=dict)
    variants: frozenset[str] = frozenset()
    due: Due = Due.EVERY_INTERVAL
    csv: Csv = field(default_factory=Csv)
    epoch: Epoch = Epoch.SECONDS
    overlap_days: int = 7
    subject: Subject | None = None

    def __post_init__(self) -> None:
        for name in (self.domain, self.name):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"Stream name {name!r} must be lower case letters, digits and _.")
        if not self.files or self.files.startswith("/"):
            raise ValueError(f"Stream {self.name} has files {self.files!r}; expected a pattern below the drop.")
        for name, kind in (("format", Format), ("dated", Dated), ("due", Due), ("epoch", Epoch)):
            object.__setattr__(self, name, member(self.name, name, kind, getattr(self, name)))
        types = canonical_all(self.name, self.types)
        if self.day != FILE_DATE:
            types.setdefault(self.day, UTC_TIME)
            if types[self.day] not in (UTC_TIME, "DATE"):
                raise ValueError(f"Stream {self.name} has its day in {self.day}, which must be DATE or TIMESTAMPTZ.")
        if unknown := sorted(self.variants - {name for name, kind in types.items() if kind != "VARCHAR"}):
            raise ValueError(f"Stream {self.name} accepts variants of {', '.join(unknown)}, which it gives no type.")
        if fixed := sorted(self.variants & {*self.key, self.day}):
            raise ValueError(f"Stream {self.name} finds its rows by {', '.join(fixed)}, which may have no variants.")
        if self.variants and self.format is not Format.CSV:
            raise ValueError(f"Stream {self.name} has variants, which only CSV may have.")
        if self.overlap_days < 0:
            raise ValueError(f"Stream {self.name} needs overlap_days from 0.")
        object.__setattr__(self, "types", types)

    @property
    def table(self) -> str:
        return f"{self.domain}_{self.name}"

    @property
    def updated_at(self) -> str:
        """Column of the day by which an interval takes a row: its file's."""
        return FILE_DATE

    def takes(self, path: str) -> bool:
        """Whether a file, by its path below the drop, is one of these."""
        return _matches(path.split("/"), self.files.split("/"))


def is_unfinished(path: str) -> bool:
    """Whether a file's name says that it is still being written."""
    return any(fnmatchcase(path.rpartition("/")[2], pattern) for pattern in UNFINISHED)


def date_in(path: str) -> date | None:
    """The last date in a file's path, as 2026-11-01, 2026_11_01 or 20261101; None if there is none."""
    for match in reversed(list(DATE.finditer(path))):
        try:
            return date(*(int(match[part]) for part in ("year", "month", "day")))
        except ValueError:
            continue
    return None


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
