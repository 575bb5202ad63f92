"""Who the rows of a bronze table are about: each stream says so in its spec, and erasure asks here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from include.domains import streams as streams_of
from include.errors import SetupError


@dataclass(frozen=True)
class Subject:
    """How a table says whose row it is.

    Attributes:
        columns: those whose values, joined by `/`, name the person, the site first; empty: the rows are nobody's.
        identifiers: columns whose values point to the person too, and are searched for after an erasure.
        why: of a table whose rows are nobody's, the reason.
    """

    columns: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    why: str = ""

    def __post_init__(self) -> None:
        if self.columns and (self.columns[0] != "site" or self.why):
            raise ValueError(f"A subject is named by its site first and needs no reason; this is {self}.")
        if not self.columns and (self.identifiers or not self.why):
            raise ValueError("A table whose rows are nobody's says why, and has no identifiers.")


def nobody(why: str) -> Subject:
    """Rows that are about nobody."""
    return Subject(why=why)


def subjects(domain: str, streams: Mapping[str, Any] | None = None) -> dict[str, Subject]:
    """Each bronze table of a domain and who its rows are about.

    Args:
        streams: instead of the domain's own.

    Raises:
        SetupError: there is no such domain, or a stream of it does not say.
    """
    if streams is None:
        streams = streams_of(domain)
    silent = sorted(stream.name for stream in streams.values() if stream.subject is None)
    if silent:
        raise SetupError(
            f"Streams {', '.join(silent)} of {domain} do not say who their rows are about; give each a `subject` in "
            f"include/sources/{domain}/streams.py: columns that name the person, or nobody(why)."
        )
    found = {stream.table: stream.subject for stream in streams.values()}
    if not any(subject.columns for subject in found.values()):
        raise SetupError(f"No stream of {domain} is about people, so there is nobody to forget.")
    return found
