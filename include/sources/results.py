"""What an ingest did, and how it fails: the same words for every source."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from include.errors import LakehouseError, SourceError
from include.sources.errors import AccessError, SchemaError, SitesError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SiteLoad:
    """What one site (a server, a database) brought.

    Attributes:
        windows: UTC days that it was asked for.
        records: records that landed.
        undated: records that state no day; they are in quarantine.
    """

    site: str
    windows: int
    records: int
    undated: int


@dataclass(frozen=True)
class SiteFailure:
    """A site that brought nothing, and why."""

    site: str
    reason: str
    optional: bool
    retryable: bool

    @classmethod
    def of(cls, site: str, error: LakehouseError, *, optional: bool) -> "SiteFailure":
        can_help = isinstance(error, SourceError) and not isinstance(error, AccessError | SchemaError)
        retryable = vars(error).get("retryable", can_help)  # what the error itself says wins
        return cls(site, str(error), optional, retryable)


@dataclass(frozen=True)
class IngestResult:
    """What an ingest did. `load_seq`, `load_id` and `snapshot_id` are None when nothing was loaded.

    The lake at `snapshot_id` holds the load, whole.
    """

    stream: str
    table: str
    interval_start: str
    interval_end: str
    load_seq: int | None
    load_id: str | None
    snapshot_id: int | None
    sites: tuple[SiteLoad, ...]
    failed: tuple[SiteFailure, ...]

    @property
    def records(self) -> int:
        return sum(site.records for site in self.sites)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def or_raise(self) -> "IngestResult":
        """Itself, if every site that had to has landed.

        Raises:
            SitesError: a site that is not optional failed, or all did.
        """
        red = [failure for failure in self.failed if not failure.optional]
        if red or not self.sites:
            raise _sites_error(self, red or self.failed)
        for failure in self.failed:
            log.warning("Optional site %s is missing from %s: %s", failure.site, self.table, failure.reason)
        return self


def _sites_error(result: IngestResult, failures: Sequence[SiteFailure]) -> SitesError:
    reasons = "\n".join(f"- {failure.reason}" for failure in failures)
    sites = {each.site for each in (*result.sites, *result.failed)}
    others = {site.site for site in result.sites} - {failure.site for failure in failures}
    landed = f"The other {len(others)} landed in load {result.load_seq}." if others else "Nothing was loaded."
    if result.sites and not others:
        landed = f"What was whole landed in load {result.load_seq}."
    return SitesError(
        f"{len(failures)} of {len(sites)} sites failed for {result.table}. {landed}\n{reasons}",
        result,
        retryable=any(failure.retryable for failure in failures),
    )
