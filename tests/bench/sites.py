"""Nightscout sites with years of readings, served by the demo's server; the readings are worked out when asked for."""

import math
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

from include.local.nightscout import NightscoutSite, serve
from include.local.nightscout.query import Condition
from include.local.nightscout.store import View
from tests.bench.data import site_names

STEP_MS = 300_000
UPLOADED_MS = 4_000  # after the reading
TRENDS = ("Flat", "FortyFiveUp", "FortyFiveDown", "SingleUp", "SingleDown")


class Readings(View):
    """A reading each five minutes of `[first, end)`; only what a client of API v3 asks of entries."""

    def __init__(self, site: str, first: date, end: date) -> None:
        super().__init__("entries", (), since=-math.inf, until=math.inf)
        self._site = site
        self._start = int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp() * 1000)
        self._count = (end - first).days * 86_400_000 // STEP_MS

    def find(
        self,
        conditions: Sequence[Condition],
        order: Sequence[str] | None = None,
        *,
        descending: bool = False,
        skip: int = 0,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        low, high = 0, self._count
        for condition in conditions:
            if condition.field not in ("date", "srvModified") or not condition.bounds:
                continue  # every reading is valid
            moment = int(condition.value) - self._start - (UPLOADED_MS if condition.field == "srvModified" else 0)
            match condition.operator:
                case "gte":
                    low = max(low, -(-moment // STEP_MS))
                case "gt":
                    low = max(low, moment // STEP_MS + 1)
                case "lt":
                    high = min(high, -(-moment // STEP_MS))
                case "lte":
                    high = min(high, moment // STEP_MS + 1)
        places = range(low, max(low, high))
        chosen: Iterable[int] = (places[::-1] if descending else places)[skip:]
        return [self._reading(number) for number in (chosen if limit is None else chosen[:limit])]  # type: ignore[index]

    def _reading(self, number: int) -> dict[str, Any]:
        at = self._start + number * STEP_MS
        key = f"{self._site}-{at}"
        return {
            "_id": key,
            "identifier": key,
            "type": "sgv",
            "date": at,
            "dateString": datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds"),
            "sgv": 110 + round(60 * math.sin(number / 37)) + number * 7 % 13,
            "direction": TRENDS[number % 5],
            "device": "sensor",
            "app": "bench",
            "utcOffset": 0,
            "subject": "uploader",
            "srvCreated": at + UPLOADED_MS,
            "srvModified": at + UPLOADED_MS,
            "isValid": True,
        }


class Site(NightscoutSite):
    """A site that holds readings and nothing else."""

    def __init__(self, site: str, first: date, end: date) -> None:
        super().__init__(site)
        self._readings = Readings(site, first, end)

    def view(self, collection: str) -> View:
        return self._readings if collection == "entries" else super().view(collection)


@contextmanager
def served(count: int, first: date, end: date) -> Iterator[tuple[str, dict[str, str]]]:
    """Sites in a process of their own, as they are elsewhere; gives their sites file and connections."""
    from tests.bench.runner import context

    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(sender, count, first, end), daemon=True)
    process.start()
    sender.close()
    try:
        yield receiver.recv()
    finally:
        process.terminate()
        process.join()


def _serve(sender: Any, count: int, first: date, end: date) -> None:
    with serve([Site(name, first, end) for name in site_names(count)]) as server:
        sender.send((server.sites_yaml(), server.connections()))
        signal.pause()
