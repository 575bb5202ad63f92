"""The ledger takes entries and nothing else, and any change of it is found."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.connections import Postgres
from include.errors import ReleaseError
from include.local.postgres import LocalPostgres
from include.release import ledger
from include.release.ledger import Anchor, LedgerError
from tests.include.release.building import Releasing, build


def chain(length: int = 4) -> list[dict[str, Any]]:
    """A ledger as it would be exported."""
    found: list[dict[str, Any]] = []
    for release_id in range(1, length + 1):
        entry: dict[str, Any] = {
            "release_id": release_id,
            "kind": "release",
            "domain": "demo",
            "interval_start": "2026-11-01T00:00:00.000000Z",
            "interval_end": "2026-11-02T00:00:00.000000Z",
            "dag_run_id": f"scheduled__{release_id}",
            "code_version": "abc",
            "snapshot_id": release_id * 10,
            "gates": [{"gate": "gate_gold", "share": 0.5, "whole": 1.0}],
            "marts": {"m": {"rows": release_id, "sha256": "00"}},
            "rolled_back_to": None,
            "released_at": "2026-11-02T00:10:00.000000Z",
            "previous_hash": found[-1]["entry_hash"] if found else None,
        }
        found.append(entry | {"entry_hash": ledger.entry_hash(entry)})
    return found


def rehashed(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Somebody who knows how: every hash computed again."""
    previous = None
    for entry in entries:
        entry["previous_hash"] = previous
        previous = entry["entry_hash"] = ledger.entry_hash(entry)
    return entries


def anchors(entries: list[dict[str, Any]]) -> list[Anchor]:
    return [Anchor(entry["release_id"], entry["entry_hash"], f"snapshot {entry['snapshot_id']}") for entry in entries]


def test_a_chain_that_holds_says_what_was_checked() -> None:
    assert ledger.verify_chain(chain()).entries == 4
    assert "4 entries, every hash holds, 4 marks" in str(ledger.verify_chain(chain(), anchors(chain())))


def test_a_ledger_from_before_withdrawals_takes_them(releasing: Releasing) -> None:
    ledger.ensure(releasing.marts)
    (name,) = releasing.query("select conname from pg_constraint where conname like 'releases_kind%'")[0]
    with psycopg.connect(releasing.marts.conninfo(), password=releasing.marts.password) as connection:
        connection.execute(
            f"alter table ledger.releases drop constraint {name}, "
            f"add constraint {name} check (kind in ('release', 'rollback'))"
        )
    for _ in range(2):
        ledger.ensure(releasing.marts)
        kinds = f"select pg_get_constraintdef(oid) from pg_constraint where conname = '{name}'"
        ((definition,),) = releasing.query(kinds)
        assert "withdrawal" in definition and "rollback" in definition


def test_every_field_is_under_the_hash() -> None:
    for name in ledger.COLUMNS:
        entries = chain()
        entries[1][name] = {"entry_hash": "f" * 64, "previous_hash": "f" * 64}.get(name, "tampered")
        with pytest.raises(LedgerError) as caught:
            ledger.verify_chain(entries)
        assert caught.value.release_id == 2


@pytest.mark.parametrize(
    ("tamper", "first_bad", "sentence"),
    [
        (lambda c: c[1]["marts"]["m"].update(rows=99), 2, "Entry 2 was changed after it was written"),
        (lambda c: c.pop(1), 2, "Entry 2 is missing"),
        (lambda c: c.pop(0), 1, "Entry 1 is missing"),
        (lambda c: c.insert(1, c.pop(2)), 2, "Entry 2 is out of order"),
        (lambda c: c.append(c[-1]), 5, "Entry 5 is missing"),
        (lambda c: c[2].update(previous_hash="0" * 64), 3, "Entry 3 was changed"),
        (
            lambda c: (c[1].update(snapshot_id=99), c[1].update(entry_hash=ledger.entry_hash(c[1]))),
            3,
            "does not follow",
        ),
    ],
)
def test_first_bad_entry_is_named(tamper: Any, first_bad: int, sentence: str) -> None:
    entries = chain()
    tamper(entries)
    with pytest.raises(LedgerError, match=sentence) as caught:
        ledger.verify_chain(entries)
    assert caught.value.release_id == first_bad


@pytest.mark.parametrize(
    ("tamper", "first_bad"),
    [
        (lambda c: c.pop(), 4),
        (lambda c: c.clear(), 1),
        (lambda c: (c[2].update(snapshot_id=99), rehashed(c)), 3),
        (lambda c: (c.pop(1), [e.update(release_id=i) for i, e in enumerate(c, 1)], rehashed(c)), 2),
    ],
)
def test_what_a_skilful_hand_does_is_found_by_the_lakes_marks(tamper: Any, first_bad: int) -> None:
    entries = chain()
    tamper(entries)
    if entries:
        ledger.verify_chain(entries)  # the chain alone does not show it
    with pytest.raises(LedgerError) as caught:
        ledger.verify_chain(entries, anchors(chain()))
    assert caught.value.release_id == first_bad


def test_empty_ledger_is_not_a_verified_one() -> None:
    with pytest.raises(ReleaseError, match="nothing to verify"):
        ledger.verify_chain([])


def test_numbers_hash_the_same_however_jsonb_spells_them(marts_server: Postgres) -> None:
    values = [1.0, 1e16, 1e300, 0.1, -0.0, 1e-7, 123456789.25, 2**53, True, None, "é \"'\\"]
    with psycopg.connect(marts_server.conninfo()) as connection:
        row = connection.execute("select %s::jsonb::text", [json.dumps(values)]).fetchone()
    assert row is not None
    assert ledger.canonical(json.loads(row[0])) == ledger.canonical(values)


def test_ledger_refuses_change_even_from_its_owner(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    for statement in (
        "update ledger.releases set code_version = 'other'",
        "delete from ledger.releases",
        "truncate ledger.releases",
        "delete from ledger.releases where false",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            releasing.query(statement)
    ledger.ensure(releasing.marts)
    assert ledger.verify(releasing.marts, releasing.lake).entries == 1


def test_superusers_hand_is_found(releasing: Releasing, server: LocalPostgres, tmp_path: Path) -> None:
    for version in (1, 2, 3):
        releasing.release(build(releasing.lake, version))
    copy = tmp_path / "ledger.jsonl"
    assert ledger.export(releasing.marts, copy) == 3
    assert ledger.verify_chain(ledger.read_file(copy)) == ledger.verify(releasing.marts)
    assert ledger.verify(releasing.marts, releasing.lake).anchored == 3 + 2  # commit messages, and the two views

    def by_superuser(statement: str) -> None:
        superuser = server.as_role("postgres", releasing.marts.database)
        with psycopg.connect(superuser.conninfo(), password=superuser.password) as connection:
            connection.execute("alter table ledger.releases disable trigger append_only")
            connection.execute(statement)
            connection.execute("alter table ledger.releases enable trigger append_only")

    by_superuser("delete from ledger.releases where release_id = 3")
    assert ledger.verify(releasing.marts).entries == 2
    with pytest.raises(LedgerError, match="Entry 3 is missing: the lake names it in snapshot"):
        ledger.verify(releasing.marts, releasing.lake)
    by_superuser(
        """update ledger.releases set marts = jsonb_set(marts, '{mrt_daily,rows}', '6') where release_id = 2"""
    )
    with pytest.raises(LedgerError, match="Entry 2 was changed after it was written"):
        ledger.verify(releasing.marts)
    by_superuser("delete from ledger.releases")
    with pytest.raises(LedgerError, match="Entry 1 is missing"):
        ledger.verify(releasing.marts, releasing.lake)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[:-20], "Line 2 of .* is not JSON"),
        (lambda text: text.replace('"gates":', '"gatez":', 1), "Line 1 of .* lacks fields"),
    ],
)
def test_damaged_export_names_its_line(tmp_path: Path, spoil: Any, message: str) -> None:
    file = tmp_path / "ledger.jsonl"
    file.write_text(spoil("".join(f"{ledger.canonical(entry)}\n" for entry in chain(2))))
    with pytest.raises(ReleaseError, match=message):
        ledger.read_file(file)
    with pytest.raises(ReleaseError, match="no file"):
        ledger.read_file(tmp_path / "none")


def test_retained_releases_and_what_readers_are_on_pin_their_snapshots(releasing: Releasing) -> None:
    assert ledger.pinned_snapshots(releasing.marts) == set()
    old, new = build(releasing.lake, 1), build(releasing.lake, 2)
    releasing.release(old)
    releasing.release(new)
    assert ledger.pinned_snapshots(releasing.marts) == {old, new}
    assert ledger.pinned_snapshots(releasing.marts, since=datetime.now(UTC) + timedelta(days=1)) == {new}
