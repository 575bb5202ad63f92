"""The streams of a Nightscout site, each a frozen spec. A new stream or field is a line or two here."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

from include.naming import snake_case
from include.sources import bronze
from include.sources.subjects import Subject

Record = Mapping[str, Any]

EPOCH = date(1970, 1, 1)
DAY_MS = 86_400_000
LAST_MS = (date(2200, 1, 1) - EPOCH).days * DAY_MS


class Kind(StrEnum):
    """Type of a payload column, by what JSON may hold in it."""

    TEXT = "text"
    SCALAR = "text or number"  # kept as text
    DOUBLE = "double"
    BIGINT = "bigint"  # a fraction is cut off: some uploaders send fractions of a millisecond
    BOOLEAN = "boolean"
    JSON = "an object or a list"  # kept as JSON text
    OPEN = "text, an object or a list"  # of fields that a stream does not declare


class TimeEncoding(StrEnum):
    """How the field that a site filters by holds the time of a record."""

    EPOCH_MS = "epoch ms"
    ISO = "iso 8601"


@dataclass(frozen=True)
class Column:
    """A field of Nightscout and the bronze column that it lands in."""

    field: str
    kind: Kind

    @property
    def name(self) -> str:
        return snake_case(self.field)


@dataclass(frozen=True)
class Stream:
    """One collection of a site.

    Attributes:
        name: the last part of the bronze table's name.
        v1_path: path below `/api/v1/`.
        v3_collection: path below `/api/v3/`.
        time_field: the field that requests filter and sort by, in both APIs.
        event_time: epoch milliseconds of a record's event, or None if it states none.
        columns: declared fields; their columns exist in bronze from the first load on.
        variants: declared fields whose values of another type are accepted: they land as text in `<column>__v_text`.
        whole: every document is fetched each time, since the stream is small and any document may be replaced.
        movable: an edit may move a record to another day, which v3 history then tells.
        subject: who the records are about.
    """

    name: str
    v1_path: str
    v3_collection: str
    time_field: str
    time_encoding: TimeEncoding
    event_time: Callable[[Record], int | None]
    columns: tuple[Column, ...]
    variants: frozenset[str] = frozenset()
    whole: bool = False
    movable: bool = False
    subject: Subject | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"Stream name {self.name!r} must be lower case letters, digits and _.")
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Stream {self.name} declares {', '.join(twice)} more than once.")
        clash = sorted(set(names) & set(LINEAGE))
        if clash:
            raise ValueError(f"Stream {self.name} declares {', '.join(clash)}, which bronze uses for lineage.")
        unknown = sorted(self.variants - {column.field for column in self.columns})
        if unknown:
            raise ValueError(f"Stream {self.name} accepts variants of {', '.join(unknown)}, which it does not declare.")

    @property
    def table(self) -> str:
        return f"nightscout_{self.name}"

    def day(self, record: Record) -> date | None:
        """The UTC day that the record belongs to; None if it states none, or one before 1970 or from 2200 on."""
        return self.days([record])[0]

    def days(self, records: Iterable[Record]) -> list[date | None]:
        """The UTC day of each record, as `day` has it."""
        moments = map(self.event_time, records)
        return [_date(moment // DAY_MS) if moment is not None and 0 <= moment < LAST_MS else None for moment in moments]


# Columns that every row has, before the payload. `_dlt_load_id` follows the payload.
LINEAGE = (*bronze.LINEAGE, "api_version", "site_time_zone", "site_units")


@lru_cache(maxsize=8192)
def _date(day: int) -> date:
    return EPOCH + timedelta(days=day)


def milliseconds(moment: datetime) -> int:
    """Epoch milliseconds of an aware datetime."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def parse_time(value: Any) -> int | None:
    """Epoch milliseconds of a number (epoch ms) or of an ISO 8601 text; a text without offset is UTC."""
    if type(value) is int:  # first, as it is what nearly every record has
        return value
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return int(value // 1)
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return milliseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _first_time(*fields: str) -> Callable[[Record], int | None]:
    def event_time(record: Record) -> int | None:
        for field in fields:
            moment = parse_time(record.get(field))
            if moment is not None:
                return moment
        return None

    return event_time


def _columns(kinds: Mapping[Kind, str]) -> tuple[Column, ...]:
    common = {
        Kind.TEXT: "identifier app device subject",
        Kind.BIGINT: "srvCreated srvModified",
        Kind.BOOLEAN: "isValid",
    }
    own = [Column(field, kind) for kind, fields in kinds.items() for field in fields.split()]
    declared = {column.field for column in own}
    shared = [Column(field, kind) for kind, fields in common.items() for field in fields.split()]
    return (*own, *(column for column in shared if column.field not in declared))


# A site is one person's.
WEARER = Subject(("site",), identifiers=("site",))

ENTRIES = Stream(
    name="entries",
    subject=WEARER,
    v1_path="entries.json",
    v3_collection="entries",
    time_field="date",
    time_encoding=TimeEncoding.EPOCH_MS,
    event_time=_first_time("date", "dateString"),
    columns=_columns(
        {
            Kind.TEXT: "type dateString direction device sysTime",
            Kind.BIGINT: "date",
            Kind.DOUBLE: "sgv mbg noise filtered unfiltered rssi delta slope intercept scale utcOffset",
        }
    ),
)

TREATMENTS = Stream(
    name="treatments",
    subject=WEARER,
    v1_path="treatments.json",
    v3_collection="treatments",
    time_field="created_at",
    time_encoding=TimeEncoding.ISO,
    event_time=_first_time("created_at", "date"),
    columns=_columns(
        {
            Kind.TEXT: "eventType created_at glucoseType units profile notes reason enteredBy",
            Kind.BIGINT: "date",
            Kind.DOUBLE: "insulin carbs protein fat glucose duration percent absolute rate utcOffset",
        }
    ),
    # Nightscout's own care portal sends these two as it finds them in its text boxes.
    variants=frozenset({"protein", "fat"}),
    movable=True,
)

DEVICESTATUS = Stream(
    name="devicestatus",
    subject=WEARER,
    v1_path="devicestatus.json",
    v3_collection="devicestatus",
    time_field="created_at",
    time_encoding=TimeEncoding.ISO,
    event_time=_first_time("created_at", "date"),
    columns=_columns(
        {
            Kind.TEXT: "created_at device",
            Kind.BIGINT: "date",
            Kind.DOUBLE: "uploaderBattery",
            Kind.JSON: "uploader pump loop openaps",
        }
    ),
)

PROFILE = Stream(
    name="profile",
    subject=WEARER,
    v1_path="profile.json",
    v3_collection="profile",
    time_field="startDate",
    time_encoding=TimeEncoding.ISO,
    event_time=_first_time("startDate", "created_at"),
    columns=_columns(
        {
            Kind.TEXT: "startDate created_at defaultProfile units",
            Kind.SCALAR: "mills",
            Kind.JSON: "store",
        }
    ),
    whole=True,
)

STREAMS = {stream.name: stream for stream in (ENTRIES, TREATMENTS, DEVICESTATUS, PROFILE)}
