"""What a table of a source database must tell for it to be read again and again, as a frozen spec."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from include.sources.subjects import Subject


class Reconcile(StrEnum):
    """Whose keys each load compares with the source's, to find rows that were deleted for good."""

    ALL = "all"
    DAYS = "days"  # only those of the interval's and the overlap's days


@dataclass(frozen=True)
class Stream:
    """One table.

    Attributes:
        domain: the first part of the bronze table's name.
        name: the rest of it, and the table's name at the source.
        key: columns of its primary key.
        day: column whose UTC day a record belongs to; a time that does not change.
        updated_at: column that grows with each change, soft deletes included.
        reconcile: `DAYS` for a table so big that reading all its keys each day is too much.
        page_rows: rows of one query; each is its own short transaction on the source.
        casts: column and PostgreSQL type to read it as, instead of its own.
        most_gone: share of the rows of a database that may be found deleted at once. Above it the load is refused, as
            a table that was emptied or a wrong database looks the same.
        subject: who the rows are about.
    """

    domain: str
    name: str
    key: tuple[str, ...]
    day: str = "created_at"
    updated_at: str = "updated_at"
    reconcile: Reconcile = Reconcile.ALL
    page_rows: int = 200_000
    casts: Mapping[str, str] = field(default_factory=dict)
    most_gone: float = 0.5
    subject: Subject | None = None

    def __post_init__(self) -> None:
        for name in (self.domain, self.name):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"Stream name {name!r} must be lower case letters, digits and _.")
        if not self.key:
            raise ValueError(f"Stream {self.name} has no key; name the columns of its primary key.")
        if fixed := sorted(set(self.casts) & {*self.key, self.day, self.updated_at}):
            raise ValueError(f"Stream {self.name} casts {', '.join(fixed)}, which it finds its rows by; take it out.")
        if self.page_rows < 1 or not 0 < self.most_gone <= 1:
            raise ValueError(f"Stream {self.name} needs page_rows above 0 and most_gone above 0 and up to 1.")

    @property
    def table(self) -> str:
        return f"{self.domain}_{self.name}"
