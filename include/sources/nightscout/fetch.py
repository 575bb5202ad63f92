"""What one site holds for an interval, by UTC day.

Which days are fetched and replaced:
- the days of the interval and of the look-back before it;
- with API v3, every day that a document written, edited or deleted in that same span, by the site's clock, belongs to
  (its event may be older than the look-back), and the day that bronze still has it on, if an edit moved it;
- of the profile stream, any day before the interval's end on which bronze has other documents than the site, too.
A window is one site and one such day. A record goes into the window of its own UTC day; one that states no day is kept
apart, for quarantine.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from include.interval import Interval, ranges
from include.sources.ingest import Progress
from include.sources.nightscout.client import V3, SiteClient
from include.sources.nightscout.sites import Site
from include.sources.nightscout.streams import DAY_MS, EPOCH, LAST_MS, Record, Stream, milliseconds
from include.sources.nightscout.tables import Page, page_of

log = logging.getLogger(__name__)

RIGHT = timedelta(minutes=5)  # as a clock that nobody would set

DaysInBronze = Callable[[str, Sequence[str] | None], set[date]]
"""Days on which bronze has records of a site: those with the given ids, or any."""

HeldDays = Callable[[Site, str, Page], set[date]]
"""Days on which bronze has just these records of a site, which it answered by this version of its API."""


@dataclass(frozen=True)
class SiteAnswer:
    """All that a site answered for one load.

    Attributes:
        windows: days that this load replaces, in order.
        touched: those among them that are neither in the interval nor in the look-back.
        outside: records of days that nobody asked for; they come when their day is asked for.
        fetched_at: when the site had answered all of it.
        undated: records that state no day at all, so that no window can ever hold them.
    """

    site: Site
    api_version: str
    windows: tuple[date, ...]
    touched: tuple[date, ...]
    pages: tuple[Page, ...]
    records: int
    outside: int
    fetched_at: datetime
    undated: tuple[Record, ...] = ()


def fetch_site(
    client: SiteClient,
    stream: Stream,
    interval: Interval,
    lookback_days: int,
    *,
    bronze: Mapping[str, str] | None = None,
    days_in_bronze: DaysInBronze | None = None,
    held_days: HeldDays | None = None,
    progress: Progress | None = None,
) -> SiteAnswer:
    """Fetch one site's windows of an interval.

    Raises:
        SourceError: see `SiteClient`.
    """
    client.connect()
    span = interval.widened(days_before=lookback_days)
    asked = set(span.days())
    undated: list[Record] = []
    windows = asked | _changed_days(client, stream, span, days_in_bronze, undated)
    pages: list[Page] = []
    count = outside = 0

    def take(records: Sequence[Record], days: set[date], lowest: int, highest: int) -> None:
        nonlocal count, outside
        kept, kept_days = [], []
        for record, day in zip(records, stream.days(records), strict=True):
            if record.get("isValid") is False:
                continue
            if day in days:
                kept.append(record)
                kept_days.append(day)
            elif day is None:
                undated.append(record)
            else:
                moment = stream.event_time(record)
                outside += moment is None or not lowest <= moment < highest
        if kept:
            pages.append(page_of(kept, kept_days, client.site.site, stream, bronze or {}))
        count += len(kept)
        if progress:
            progress(client.site.site, count)

    if stream.whole:
        documents = client.every_record(stream)
        known = {*stream.days(documents)} - {None}
        if days_in_bronze:
            known |= days_in_bronze(client.site.site, None)
        windows |= {day for day in known if day < interval.end.date()}
        take(documents, windows, 0, LAST_MS)
        if held_days and pages:
            # What is fetched each day is not written each day: what it feeds, and its gates, would go through it all.
            (page,) = pages
            windows -= held_days(client.site, client.api, page) - asked
            pages = [page.of_days(windows)]
            count = pages[0].table.num_rows
    else:
        for first, last in ranges(windows):
            start, end = (first - EPOCH).days * DAY_MS, ((last - EPOCH).days + 1) * DAY_MS
            days = {first + timedelta(days=i) for i in range((last - first).days + 1)}
            for records in client.records(stream, start, end):
                # Times that are text come with a margin of a day.
                take(records, days, start - DAY_MS, end + DAY_MS)
    if outside:
        log.warning(
            "Site %s answered %d records of %s outside of what was asked; they were left out.",
            client.site.site,
            outside,
            stream.name,
        )
    return SiteAnswer(
        site=client.site,
        api_version=client.api,
        windows=tuple(sorted(windows)),
        touched=tuple(sorted(windows - asked)),
        pages=tuple(pages),
        records=count,
        outside=outside,
        fetched_at=datetime.now(UTC),
        undated=tuple(undated),
    )


def _changed_days(
    client: SiteClient,
    stream: Stream,
    span: Interval,
    days_in_bronze: DaysInBronze | None,
    undated: list[Record],
) -> set[date]:
    if client.api != V3:
        return set()
    days: set[date] = set()
    moved: list[str] = []
    for changes in client.changes(stream, *_by_its_clock(client, span)):
        for change, day in zip(changes, stream.days(each.record for each in changes), strict=True):
            if day is not None:
                days.add(day)
            elif not change.deleted:
                undated.append(change.record)
        if stream.movable:
            moved += [change.record_id for change in changes]
    if moved and days_in_bronze:
        days |= days_in_bronze(client.site.site, moved)
    return days


def _by_its_clock(client: SiteClient, span: Interval) -> tuple[int, int]:
    """The span in epoch ms, longer by what the site's clock, which stamps changes, is ahead or behind."""
    ahead = timedelta(seconds=client.ahead_seconds or 0)
    if abs(ahead) < RIGHT:
        ahead = timedelta()
    else:
        log.warning(
            "Site %s: its clock is %s %s of ours; changes are looked for in a span that is longer by that. Set it.",
            client.site.site,
            timedelta(minutes=round(abs(ahead) / timedelta(minutes=1))),
            "ahead" if ahead > timedelta() else "behind",
        )
    return milliseconds(span.start + min(ahead, timedelta())), milliseconds(span.end + max(ahead, timedelta()))
