"""What the flags of `lake new` say, and what is asked where they say nothing."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from include.connections import Connection
from include.errors import SetupError
from include.scaffold.kinds import Kind
from include.scaffold.names import ScaffoldError, is_personal
from include.scaffold.spec import Column, Stream, Whose

NOBODY = re.compile(r"nobody\s*:\s*(.+)", re.DOTALL)
OUTSIDE_BRACKETS = re.compile(r",(?![^()]*\))")
Ask = Callable[[str, str], str]
"""Called with a question and the answer that is likely; gives the answer, or raises where nobody can be asked."""


@dataclass(frozen=True)
class Flags:
    """The flags that streams are made of, as given; each names its stream, `STREAM=…`.

    Attributes:
        columns: COLUMN:TYPE, with commas between.
        subject: COLUMN, with commas between, or `nobody: WHY`.
        personal: columns that are to be hashed though nothing in their name says so.
        clear: columns that look personal and are not.
        facts: streams whose rows are events or documents.
        read: OPTION=VALUE, with commas between: how the source is asked for it.
        connection: connects to the database, where it is known; columns are then read from it.
    """

    kind: Kind
    columns: Mapping[str, str] = field(default_factory=dict)
    subject: Mapping[str, str] = field(default_factory=dict)
    personal: Mapping[str, str] = field(default_factory=dict)
    clear: Mapping[str, str] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    read: Mapping[str, str] = field(default_factory=dict)
    connection: Callable[[], Connection] | None = None
    conn_id: str = ""
    schema: str = "public"

    def require_known(self, streams: Iterable[str]) -> None:
        """Raises: ScaffoldError: a flag is about a stream that is not among those to be written."""
        known = set(streams)
        for flag in ("columns", "subject", "personal", "clear", "read"):
            if odd := sorted(set(getattr(self, flag)) - known):
                raise ScaffoldError(f"--{flag} names {', '.join(odd)}, but the streams are {', '.join(sorted(known))}.")
        if odd := sorted(set(self.facts) - known):
            raise ScaffoldError(f"--fact names {', '.join(odd)}, but the streams are {', '.join(sorted(known))}.")

    def stream(self, domain: str, spelled: str, ask: Ask | None = None) -> Stream:
        """A stream from `NAME[:KEY[:CURSOR[:DAY]]]`, with commas between the columns of a key.

        Args:
            ask: for what is not said; without it, that is an error.

        Raises:
            ScaffoldError: something is not said, or cannot be.
        """
        name, *rest = spelled.split(":")
        if len(rest) > 3:
            raise ScaffoldError(f"--stream {spelled} has more than four parts; expected NAME:KEY:CURSOR:DAY.")
        columns, primary = self._columns(name, ask)
        given = [*rest, "", "", ""]
        names = [column.name for column in columns]
        key = given[0] or self._likely("key", name, ",".join(primary), "columns that name a record", ask)
        cursor = given[1] or self._likely(
            "cursor", name, _first(names, "updated_at", "modified_at"), "a column that grows with each change", ask
        )
        day = given[2] or self._likely(
            "day",
            name,
            _first(names, "created_at", "inserted_at"),
            "a time that does not change, whose day a record is of",
            ask,
        )
        made = Stream(
            domain,
            name,
            tuple(_split(key)),
            cursor,
            day,
            columns,
            self._whose(name, names, ask),
            is_fact=self._is_fact(name, ask) or day == cursor,
            options=self._options(name),
        )
        self.kind.check(made)
        return made

    def _options(self, stream: str) -> tuple[tuple[str, str], ...]:
        found = []
        for item in _split(self.read.get(stream, "")):
            name, equals, value = item.partition("=")
            if not equals or not value.strip():
                raise ScaffoldError(f"--read {item!r} of {stream} is not OPTION=VALUE.")
            found.append((name.strip(), value.strip()))
        return tuple(found)

    def _columns(self, stream: str, ask: Ask | None) -> tuple[tuple[Column, ...], tuple[str, ...]]:
        """The columns of a stream, and those of its primary key where the database says so."""
        if stream not in self.columns and self.connection is not None and self.kind.read is not None:
            return self.kind.read(self.connection(), self.schema, stream)
        text = self.columns.get(stream) or (ask(f"Columns of {stream} (NAME:TYPE, …)", "") if ask else "")
        if not text:
            variable = f"AIRFLOW_CONN_{self.conn_id.upper()}"
            read = (
                f" Or set the connection {self.conn_id} ({variable}): they are read from it." if self.kind.read else ""
            )
            raise ScaffoldError(f'Nobody said which columns {stream} has. Say --columns "{stream}=id:bigint,…".{read}')
        made = []
        for item in _split(text):
            name, _, kind = (each.strip() for each in item.partition(":"))
            if not kind:
                raise ScaffoldError(f"Column {item!r} of {stream} has no type; expected NAME:TYPE, such as id:bigint.")
            made.append(self.kind.column(stream, name, kind))
        return tuple(made), ()

    def _likely(self, what: str, stream: str, likely: str, means: str, ask: Ask | None) -> str:
        found = ask(f"{what.capitalize()} of {stream}: {means}", likely) if ask else likely
        if not found:
            raise ScaffoldError(
                f"Nobody said what the {what} of {stream} is: {means}. Say --stream {stream}:KEY:CURSOR:DAY."
            )
        return found

    def _is_fact(self, stream: str, ask: Ask | None) -> bool:
        if stream in self.facts or ask is None:
            return stream in self.facts
        return ask(f"Are the rows of {stream} events or documents, rather than things? (yes, no)", "no") == "yes"

    def _whose(self, stream: str, names: list[str], ask: Ask | None) -> Whose:
        said, clear = self.subject.get(stream, ""), list(_split(self.clear.get(stream, "")))
        if not said and ask:
            said = ask(f"Whose are the rows of {stream}: the column that names the person, or nobody: WHY", "")
        nobody = NOBODY.fullmatch(said.strip())
        if said.strip().startswith("nobody") and nobody is None:
            raise ScaffoldError(f"Say why the rows of {stream} are nobody's: `nobody: WHY`.")
        if nobody and ask:
            for name in (each for each in names if is_personal(each) and each not in clear):
                if (
                    ask(f"{stream}.{name} looks as if it named or addressed a person. Does it? (yes, no)", "yes")
                    == "no"
                ):
                    clear.append(name)
        return Whose(
            () if nobody else tuple(_split(said)),
            " ".join(nobody[1].split()) if nobody else "",
            tuple(_split(self.personal.get(stream, ""))),
            tuple(clear),
        )


def by_stream(flag: str, values: Iterable[str]) -> dict[str, str]:
    """`STREAM=VALUE` of a flag that may be repeated, by stream.

    Raises:
        ScaffoldError: one names no stream, or one is named twice.
    """
    found: dict[str, str] = {}
    for value in values:
        stream, equals, text = value.partition("=")
        if not equals or not stream.strip() or not text.strip():
            raise ScaffoldError(f"--{flag} {value!r} is not STREAM=VALUE.")
        if stream.strip() in found:
            raise ScaffoldError(f"--{flag} names {stream.strip()} twice.")
        found[stream.strip()] = text.strip()
    return found


def connection_of(conn_id: str, connection: Callable[[str], Connection]) -> Callable[[], Connection] | None:
    """What gives a connection; None if it is not set."""
    try:
        found = connection(conn_id)
    except SetupError:
        return None
    return lambda: found


def _split(text: str) -> list[str]:
    return [part.strip() for part in OUTSIDE_BRACKETS.split(text) if part.strip()]


def _first(names: list[str], *wanted: str) -> str:
    return next((name for name in wanted if name in names), "")
