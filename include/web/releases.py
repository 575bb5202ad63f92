"""The release ledger as the pages show it. Reads only, and shows what is there even if somebody tampered with it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from include.connections import Postgres
from include.errors import LakehouseError, ReleaseError

PAGE = 50
ANSWER_SECONDS = 5


@dataclass(frozen=True)
class Mart:
    """Rows and content hash that were certified; None and empty where the entry does not say."""

    name: str
    rows: int | None
    sha256: str


@dataclass(frozen=True)
class Gate:
    """What the ledger keeps of a gate; `success` is None where the entry does not say."""

    name: str
    success: bool | None
    evaluated: int | None
    warned: tuple[str, ...]
    snapshot_id: int | None
    docs: str
    results_sha256: str


@dataclass(frozen=True)
class Release:
    """One entry of the ledger, and what became of it. Times are ISO, UTC.

    Args:
        current: readers see it.
        withdrawn_by: the rollback or withdrawal that took it back.
    """

    release_id: int
    kind: str
    domain: str
    interval: tuple[str, str]
    dag_run_id: str
    code_version: str
    snapshot_id: int
    gates: tuple[Gate, ...]
    marts: tuple[Mart, ...]
    rolled_back_to: int | None
    released_at: str
    previous_hash: str
    entry_hash: str
    current: bool = False
    withdrawn_by: int | None = None

    @property
    def is_rollback(self) -> bool:
        return self.kind == "rollback"

    @property
    def is_withdrawal(self) -> bool:
        return self.kind == "withdrawal"

    @property
    def rows(self) -> int:
        return sum(mart.rows or 0 for mart in self.marts)


@dataclass(frozen=True)
class Chain:
    """Whether the ledger's hashes hold: verified, broken or unverified. What was not checked is not verified.

    Args:
        first_bad: the first entry that is wrong.
        compared: with marks that the lake holds, without which a ledger that was cut off or rewritten looks whole.
    """

    state: str
    detail: str
    first_bad: int | None = None
    compared: bool = False


@dataclass(frozen=True)
class Ledger:
    """Every entry, newest first, with the outcome of recomputing the chain."""

    releases: tuple[Release, ...]
    chain: Chain

    @property
    def pages(self) -> int:
        return -(-len(self.releases) // PAGE)

    def page(self, number: int) -> tuple[Release, ...]:
        return self.releases[(number - 1) * PAGE : number * PAGE]

    def find(self, release_id: int) -> Release | None:
        return next((found for found in self.releases if found.release_id == release_id), None)

    def heads(self) -> dict[str, Release]:
        """The last entry of each domain: what readers should see."""
        return {found.domain: found for found in reversed(self.releases)}

    def covers_until(self, domain: str) -> str:
        """The end of the latest interval among the domain's releases that were not taken back; a backfill of an old
        interval, released last, does not make the data older."""
        mine = [found for found in self.releases if found.domain == domain]
        kept = [found for found in mine if not found.is_rollback and found.withdrawn_by is None]
        return max(found.interval[1] for found in kept or mine)


def read(marts: Postgres, anchors: Iterable[dict[str, Any]] | None = None) -> Ledger:
    """Read the ledger and recompute its chain.

    Args:
        anchors: what the lake remembers of releases, to compare with; None if the lake was not asked.

    Raises:
        ReleaseError: the database does not answer.
    """
    import psycopg

    from include.release import ledger

    try:
        rows = ledger.read(marts)
    except psycopg.Error as error:
        raise _unanswered(marts, error) from error
    known = None if anchors is None else [ledger.Anchor(**anchor) for anchor in anchors]
    return Ledger(tuple(reversed(_with_standing([_release(row) for row in rows]))), _chain(rows, known))


@contextmanager
def reading(marts: Postgres) -> Iterator[Any]:
    """A connection that can change nothing, is soon refused, and does not wait long for an answer.

    Raises:
        ReleaseError: the database does not answer.
    """
    import psycopg

    milliseconds = ANSWER_SECONDS * 1000
    options = f"-c default_transaction_read_only=on -c statement_timeout={milliseconds} -c timezone=UTC"
    try:
        with psycopg.connect(
            marts.conninfo(), password=marts.password, connect_timeout=ANSWER_SECONDS, options=options
        ) as connection:
            yield connection
    except psycopg.Error as error:
        raise _unanswered(marts, error) from error


def _unanswered(marts: Postgres, error: Exception) -> ReleaseError:
    text = str(error).strip()
    reason = text.splitlines()[0].strip() if text else type(error).__name__
    return ReleaseError(
        f"The marts database {marts.database} on {marts.host} does not answer: {reason} "
        "Check that it runs and that the connection `marts_reader` is right."
    )


def _chain(rows: list[dict[str, Any]], anchors: list[Any] | None) -> Chain:
    from include.release import ledger

    if not rows and not anchors:
        return Chain("unverified", "The ledger has no entries, so there is nothing to verify.")
    try:
        found = ledger.verify_chain(rows, anchors)
    except ledger.LedgerError as error:
        return Chain("broken", str(error), error.release_id, compared=bool(anchors))
    except (LakehouseError, KeyError, TypeError, ValueError) as error:  # what a tampered row can do to the walk
        return Chain("unverified", f"The chain could not be recomputed: {type(error).__name__}: {error}")
    entries = f"{found.entries} {'entry' if found.entries == 1 else 'entries'} recomputed, every hash holds"
    if not found.anchored:
        why = "the lake was not asked" if found.anchored is None else "the lake holds none"
        return Chain("verified", f"{entries}; not compared with the lake's marks of releases, as {why}.")
    marks = f"{found.anchored} {'mark' if found.anchored == 1 else 'marks'}"
    return Chain("verified", f"{entries}, and the lake's {marks} of releases agree.", compared=True)


def _with_standing(oldest_first: list[Release]) -> list[Release]:
    withdrawn: dict[int, int] = {}
    live: dict[str, list[int | None]] = {}  # releases of a domain as they went live, the current one last
    for entry in oldest_first:
        stack = live.setdefault(entry.domain, [])
        if entry.is_withdrawal:
            withdrawn |= {taken: entry.release_id for taken in stack if taken}
            stack.clear()
        if not entry.is_rollback:
            stack.append(entry.release_id)
            continue
        if entry.rolled_back_to in stack:
            while stack[-1] != entry.rolled_back_to:
                withdrawn[stack.pop() or 0] = entry.release_id
        else:  # forward again, to a release that an earlier rollback had taken back
            stack.append(entry.rolled_back_to)
        withdrawn.pop(entry.rolled_back_to or 0, None)
    current = {stack[-1] for stack in live.values() if stack}
    return [
        Release(
            **{
                **entry.__dict__,
                "current": not entry.is_rollback and entry.release_id in current,
                "withdrawn_by": withdrawn.get(entry.release_id),
            }
        )
        for entry in oldest_first
    ]


def _release(row: dict[str, Any]) -> Release:
    marts = row["marts"] if isinstance(row["marts"], dict) else {}
    gates = row["gates"] if isinstance(row["gates"], list) else []
    return Release(
        release_id=row["release_id"],
        kind=row["kind"],
        domain=row["domain"],
        interval=(row["interval_start"], row["interval_end"]),
        dag_run_id=row["dag_run_id"],
        code_version=row["code_version"],
        snapshot_id=row["snapshot_id"],
        gates=tuple(_gate(gate) for gate in gates if isinstance(gate, dict)),
        marts=tuple(_mart(name, marts[name]) for name in sorted(marts)),
        rolled_back_to=row["rolled_back_to"],
        released_at=row["released_at"],
        previous_hash=row["previous_hash"] or "",
        entry_hash=row["entry_hash"],
    )


def _mart(name: str, value: Any) -> Mart:
    fields = value if isinstance(value, dict) else {}
    return Mart(name, _whole(fields.get("rows")), str(fields.get("sha256") or ""))


def _gate(value: dict[str, Any]) -> Gate:
    success, warned = value.get("success"), value.get("warned")
    return Gate(
        name=str(value.get("gate") or "unnamed gate"),
        success=success if isinstance(success, bool) else None,
        evaluated=_whole(value.get("evaluated")),
        warned=tuple(str(item) for item in warned) if isinstance(warned, list) else (),
        snapshot_id=_whole(value.get("snapshot_id")),
        docs=str(value.get("docs") or ""),
        results_sha256=str(value.get("results_sha256") or ""),
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
