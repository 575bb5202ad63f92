"""Which files bronze holds: each window row says which files of its day were taken, in `window_files`, as JSON.

So the record changes in the one transaction that loads the rows, goes back in time with them, and is gone when the
table is.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date

import duckdb

from include.sources.bronze import Bronze
from include.sources.files.streams import FILE_DATE, Dated, Stream
from include.sources.keyed import FILES


@dataclass(frozen=True)
class Taken:
    """A file that was taken. `rows` counts all of its rows; `day` is the file's."""

    name: str
    sha256: str
    day: date
    rows: int


class Ledger:
    """The files of one drop that a stream has taken, by name; changed in memory until it is loaded."""

    def __init__(self, taken: Iterable[Taken]) -> None:
        self._by_name = {each.name: each for each in taken}

    @classmethod
    def read(cls, connection: duckdb.DuckDBPyConnection, bronze: Bronze, site: str) -> "Ledger":
        """What bronze says."""
        if FILES not in bronze.columns:
            return cls(())
        found = connection.execute(
            f"select interval_date, {FILES} from {bronze.name} where site = ? and record_id is null "
            f"and {FILES} is not null",
            [site],
        ).fetchall()
        return cls(Taken(day=day, **each) for day, files in found for each in json.loads(files))

    def of(self, name: str) -> Taken | None:
        return self._by_name.get(name)

    def has_content(self, stream: Stream, sha256: str, day: date) -> bool:
        """Whether a file of this content was taken, under whatever name.

        If rows take their day from the file's name, the same content on another day is another file.
        """
        by_day = stream.dated is Dated.NAME and stream.day == FILE_DATE
        return any(each.sha256 == sha256 and (not by_day or each.day == day) for each in self._by_name.values())

    def add(self, taken: Taken) -> None:
        self._by_name[taken.name] = taken

    def days(self) -> set[date]:
        return {each.day for each in self._by_name.values()}

    def rows(self, day: date) -> int:
        """Rows of the files of a day."""
        return sum(each.rows for each in self._by_name.values() if each.day == day)

    def to_json(self, day: date) -> str:
        """The files of a day, as its window row holds them."""
        files = sorted((each for each in self._by_name.values() if each.day == day), key=lambda each: each.name)
        return json.dumps([{key: value for key, value in asdict(each).items() if key != "day"} for each in files])
