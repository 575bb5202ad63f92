"""What an endpoint of an API must tell for it to be read again and again, as a frozen spec."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from include.naming import snake_case
from include.sources.subjects import Subject
from include.sources.types import UTC_TIME, Epoch, canonical_all, member


class Paginator(StrEnum):
    """How pages follow each other, by dlt's names."""

    SINGLE_PAGE = "single_page"
    JSON_LINK = "json_link"
    HEADER_LINK = "header_link"
    OFFSET = "offset"
    PAGE_NUMBER = "page_number"
    CURSOR = "cursor"


# dlt's options of each, and what they are here if nothing is said. Without a total, pages end with an empty one.
OPTIONS: Mapping[Paginator, Mapping[str, Any]] = {
    Paginator.SINGLE_PAGE: {},
    Paginator.JSON_LINK: {"next_url_path": "next"},
    Paginator.HEADER_LINK: {"links_next_key": "next"},
    Paginator.OFFSET: {"offset_param": "offset", "limit_param": "limit", "total_path": None},
    Paginator.PAGE_NUMBER: {"page_param": "page", "base_page": 1, "total_path": None},
    Paginator.CURSOR: {"cursor_path": "cursors.next", "cursor_param": "cursor"},
}


class TimeFormat(StrEnum):
    """How a bound of time is written into a request."""

    ISO = "iso"  # 2026-11-01T00:00:00Z
    DATE = "date"  # 2026-11-01
    SECONDS = "epoch s"
    MILLISECONDS = "epoch ms"


@dataclass(frozen=True)
class Stream:
    """One endpoint that lists records. Fields go by the names of their columns: `createdAt` is `created_at`.

    Attributes:
        domain: the first part of the bronze table's name.
        name: the rest of it.
        path: below the API's address.
        key: columns of its primary key.
        updated_at: column that tells when a record was last changed; of events, the time of the event.
        day: column whose UTC day a record belongs to, a time that does not change; by default `updated_at`. Then the
            endpoint is taken to answer all records of the days that it is asked for, and a record that it answers no
            more is gone.
        since_param: parameter of the lower bound of `updated_at`; None if the endpoint always answers everything.
        until_param: parameter of the upper bound.
        bounds: how these are written.
        epoch: what a number means that is a time.
        params: parameters of every request.
        data: JSONPath to the list of records; `$` if the answer is the list.
        paginator: how pages follow each other.
        paging: options of dlt's paginator of that name, where they differ from OPTIONS.
        page_size: records of a page.
        page_size_param: parameter that says so, if there is one; an offset paginator has its own.
        types: DuckDB's types of columns; undeclared numbers are decimals with nine places.
        overlap_days: days before the interval that are asked again, for records that come late.
        most_gone: share of the records of the days asked for that may be gone at once.
        subject: who the records are about.
    """

    domain: str
    name: str
    path: str
    key: tuple[str, ...]
    updated_at: str
    day: str = ""
    since_param: str | None = None
    until_param: str | None = None
    bounds: TimeFormat = TimeFormat.ISO
    epoch: Epoch = Epoch.SECONDS
    params: Mapping[str, str | int] = field(default_factory=dict)
    data: str = "$"
    paginator: Paginator = Paginator.SINGLE_PAGE
    paging: Mapping[str, Any] = field(default_factory=dict)
    page_size: int = 100
    page_size_param: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    overlap_days: int = 1
    most_gone: float = 0.5
    subject: Subject | None = None

    def __post_init__(self) -> None:
        for name in (self.domain, self.name):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"Stream name {name!r} must be lower case letters, digits and _.")
        if not self.key:
            raise ValueError(f"Stream {self.name} has no key; name the columns of its primary key.")
        object.__setattr__(self, "day", self.day or self.updated_at)
        for name, kind in (("paginator", Paginator), ("bounds", TimeFormat), ("epoch", Epoch)):
            object.__setattr__(self, name, member(self.name, name, kind, getattr(self, name)))
        if odd := sorted(name for name in (*self.key, self.updated_at, self.day) if snake_case(name) != name):
            named = ", ".join(map(snake_case, odd))
            raise ValueError(f"Stream {self.name} goes by {', '.join(odd)}; expected the names of columns: {named}.")
        if "://" in self.path:
            raise ValueError(f"Stream {self.name} has path {self.path!r}; the address belongs into the connection.")
        if self.page_size < 1 or self.overlap_days < 0 or not 0 < self.most_gone <= 1:
            raise ValueError(
                f"Stream {self.name} needs page_size above 0, overlap_days from 0 and most_gone above 0 and up to 1."
            )
        if unknown := sorted(set(self.paging) - {*OPTIONS[self.paginator], "has_more_path"}):
            known = ", ".join(OPTIONS[self.paginator]) or "none"
            raise ValueError(
                f"Stream {self.name} has paging option {', '.join(unknown)}; a {self.paginator} paginator has {known}."
            )
        times = {self.updated_at, self.day}
        types = canonical_all(self.name, dict.fromkeys(times, UTC_TIME) | dict(self.types))
        if odd := sorted(name for name in times if types[name] != UTC_TIME):
            raise ValueError(f"Stream {self.name} finds its records by {', '.join(odd)}, which must be TIMESTAMPTZ.")
        object.__setattr__(self, "types", types)

    @property
    def table(self) -> str:
        return f"{self.domain}_{self.name}"

    @property
    def answers_whole_days(self) -> bool:
        """Whether a record that is not answered for its day is gone."""
        return self.day == self.updated_at

    def bound(self, moment: datetime) -> str | int:
        """A moment as requests say it."""
        match self.bounds:
            case TimeFormat.ISO:
                return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
            case TimeFormat.DATE:
                return moment.strftime("%Y-%m-%d")
            case TimeFormat.SECONDS:
                return int(moment.timestamp())
        return int(moment.timestamp() * 1000)
