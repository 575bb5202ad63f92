"""A small lake on which steps are killed again and again: its sites have two states, so something is always to write.

What each state gives when nothing is killed is kept, and what is there after a round is compared with it.
"""

from functools import partial
from typing import Any

from include.lake import schemas
from include.layers import Layer
from include.local.nightscout import NightscoutSite
from tests.faults import children
from tests.faults.children import Step
from tests.faults.judge import Difference, difference
from tests.pipeline.flow import TABLES, Flow, Rows
from tests.pipeline.histories import WHOLE_RANGE

COPIES = "copies"


class Bench:
    """A flow whose sites are in one of two states, and the rows that each gave when nothing was killed."""

    def __init__(self, flow: Flow, site: NightscoutSite) -> None:
        self.flow, self._site, self._state, self._run = flow, site, 0, 0
        self._readings = sorted(each["identifier"] for each in self._site.documents("entries"))[:6]
        with flow.lake.open() as connection:
            schemas.ensure(connection)  # as set-up does
        children.run(flow, partial(Flow.run, first=WHOLE_RANGE.start.date(), end=WHOLE_RANGE.end.date())).value()
        self._gates = [children.run(flow, partial(gate, layer=layer)).value() for layer in Layer]
        self._lake: list[Rows] = []
        self._bronze: list[Rows] = []
        flow.write(f"create schema {COPIES}")
        for state in (1, 0):
            self.turn()
            children.run(flow, load).value()
            children.run(flow, build).value()
            self._lake.insert(0, flow.lake_rows())
            self._bronze.insert(0, self.bronze())
            for mart in TABLES["gold"]:
                flow.write(f"create table {COPIES}.{mart}_{state} as from gold.{mart}")
        assert self._lake[0] != self._lake[1] and self._bronze[0] != self._bronze[1]
        assert all(self._lake[0].values())

    def turn(self) -> None:
        """Let readings be others, and one be there or not."""
        self._state = 1 - self._state
        *edited, deleted = self._readings
        for number, key in enumerate(edited):
            self._site.edit("entries", key, {"sgv": 100 + number + 80 * self._state})
        self._site.edit("entries", deleted, {"isValid": bool(self._state)})

    def turn_gold(self) -> None:
        """Let the marts be those of the other state, as a build would leave them."""
        self._state = 1 - self._state
        with self.flow.lake.open() as lake:
            lake.execute("begin")
            for mart in TABLES["gold"]:
                lake.execute(f"delete from gold.{mart}")
                lake.execute(f"insert into gold.{mart} from {COPIES}.{mart}_{self._state}")
            lake.execute("commit")

    def release(self) -> Step:
        """The release of the lake as it is, judged by gates that passed earlier: they are not what is tried here."""
        self._run += 1
        ((snapshot,),) = self.flow.query("select max(snapshot_id) from dl.snapshots()")
        gates = [{**each, "snapshot_id": snapshot} for each in self._gates]
        return partial(Flow.release, interval=WHOLE_RANGE, run_id=f"test__{self._run}", gates=gates)

    def bronze(self) -> Rows:
        """What the loads brought, without which load it was."""
        lineage = "load_seq, fetched_at, interval_start, interval_end, _dlt_load_id, srv_modified"
        rows = self.flow.query(f"select * exclude ({lineage}) from bronze.nightscout_entries")
        return {"bronze.nightscout_entries": rows}

    def loaded(self) -> Difference:
        return difference(self.bronze(), self._bronze[self._state])

    def built(self) -> Difference:
        return difference(self.flow.lake_rows(), self._lake[self._state])

    def published(self) -> Difference:
        clean = {name: rows for name, rows in self._lake[self._state].items() if name.startswith("gold.")}
        views = {f"gold.{mart}": rows for mart, rows in self.flow.view_rows().items()}
        assert self.flow.published_rows() == self.flow.view_rows()
        return difference(views, clean)


def load(flow: Flow) -> None:
    flow.ingest(WHOLE_RANGE, streams=("entries",))


def build(flow: Flow) -> None:
    flow.dbt(Layer.SILVER, Layer.GOLD, tests=False)


def gate(flow: Flow, layer: Layer) -> dict[str, Any]:
    return flow.gate(layer, WHOLE_RANGE, "test__bench")
