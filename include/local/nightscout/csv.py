"""A CSV of readings as Nightscout sites: one site a person, entries only."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.errors import SetupError
from include.local.nightscout.demo import secret_for
from include.local.nightscout.query import iso
from include.local.nightscout.store import Clock, NightscoutSite

COLUMNS = ("id", "time", "gl")
NO_READING = frozenset({"", "NA", "NaN", "null"})

Row = tuple[int, int, float | None]


def csv_sites(file: Path, *, secret_seed: str | None = None, clock: Clock | None = None) -> list[NightscoutSite]:
    """One site for each id of a CSV with columns id, time, gl and, read over, any others.

    A site's id is the person's in lower case, its zone UTC and its unit mg/dL. Every row becomes one entry, whatever
    its value, repeated rows too; a gl that is empty or NA becomes null.

    Args:
        file: times are ISO 8601, in UTC where they name no zone; gl is in mg/dL.
        secret_seed: see `demo_sites`.
        clock: see `demo_sites`; a reading is there from its own time on.

    Raises:
        SetupError: the file is missing, lacks a column, holds no row, or has a row that cannot be read.
    """
    if not file.is_file():
        raise SetupError(f"{file} is not there; give a CSV with the columns {', '.join(COLUMNS)}.")
    people: dict[str, list[Row]] = {}
    names: dict[str, str] = {}
    with file.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or [])]
        if missing:
            raise SetupError(f"{file} has no column {missing[0]}; expected {', '.join(COLUMNS)}.")
        for number, row in enumerate(rows, start=2):
            person = (row["id"] or "").strip()
            if names.setdefault(person.lower(), person) != person:
                raise SetupError(f"{file}: {person} and {names[person.lower()]} would be the same site; rename one.")
            try:
                people.setdefault(person.lower(), []).append((number, _milliseconds(row["time"]), _value(row["gl"])))
            except (TypeError, ValueError):
                raise SetupError(
                    f"{file}, line {number}: expected a time such as 2026-11-01 06:30:00 and a number, found "
                    f"{row['time']!r} and {row['gl']!r}."
                ) from None
    if not people:
        raise SetupError(f"{file} holds no reading.")
    try:
        return [_site(site, rows, secret_seed, clock) for site, rows in people.items()]
    except ValueError as problem:
        raise SetupError(f"{file}: {problem}") from None


def _site(site: str, rows: list[Row], secret_seed: str | None, clock: Clock | None) -> NightscoutSite:
    def fill(empty: NightscoutSite) -> None:
        for number, moment, value in rows:
            empty.add("entries", _entry(number, moment, value), visible_at=moment)

    return NightscoutSite(site, secret=secret_for(site, secret_seed), clock=clock, fill=fill)


def _entry(number: int, moment: int, value: float | None) -> dict[str, Any]:
    text = iso(moment)
    return {
        "_id": f"{number:024x}",
        "type": "sgv",
        "device": "csv",
        "date": moment,
        "dateString": text,
        "sgv": int(value) if value is not None and value.is_integer() else value,
        "sysTime": text,
        "utcOffset": 0,
    }


def _milliseconds(text: str) -> int:
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _value(text: str | None) -> float | None:
    if text is None:
        raise ValueError("the line ends before it")
    return None if text.strip() in NO_READING else float(text)
