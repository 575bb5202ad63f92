"""Storage that is full, read-only, slow, away, or that lost what it held."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from include.connections import Storage
from include.errors import first_line
from include.lake import catalog, fsck
from include.lake.files import s3_client
from include.release import ledger
from tests.faults.judge import compare, sweep
from tests.faults.matrix import Outcome
from tests.faults.s3_front import S3Fault, s3_front
from tests.faults.small_disk import SmallDisk, small_disk
from tests.faults.watch import Readers
from tests.faults.world import (
    BUILT,
    DONE,
    LANDED,
    RELEASED,
    World,
    attempt,
    gate_bronze,
    gold,
    ingest,
    release,
    silver,
)
from tests.include.lake.small_lake import cut, flipped, missing

RETRY = "Airflow's retry"
S3 = "S3"
pytestmark = [pytest.mark.torture, pytest.mark.xdist_group("world")]


@pytest.mark.fault("Disk full", "an ingest, and dbt, write a file; room is made afterwards")
def test_full_disk_stops_a_write_and_costs_nothing_else(world: World, outcome: Outcome, tmp_path: Path) -> None:
    _on_small_disk(
        world, outcome, tmp_path, lambda disk: disk.fill(leave=8_192), lambda disk: disk.make_room(), "space"
    )


@pytest.mark.fault("Storage folder is read-only", "an ingest, and dbt, write a file; made writable afterwards")
def test_read_only_storage_stops_a_write_and_costs_nothing_else(world: World, outcome: Outcome, tmp_path: Path) -> None:
    _on_small_disk(world, outcome, tmp_path, SmallDisk.read_only, SmallDisk.writable, "Read-only")


def _on_small_disk(
    world: World,
    outcome: Outcome,
    folder: Path,
    hurt: Callable[[SmallDisk], None],
    heal: Callable[[SmallDisk], None],
    said: str,
) -> None:
    for state, step, schema in ((RELEASED, ingest, "bronze"), (LANDED, silver, "silver")):
        place = folder / state
        with small_disk(place) as disk, world.copy(state, Storage(str(place / "lake"))) as flow:
            assert state is RELEASED or attempt(flow, gate_bronze) is None
            with Readers(flow) as readers:
                hurt(disk)
                failure = attempt(flow, step)
                assert failure is not None and said in failure.message and failure.action != "FAIL", failure
                heal(disk)
                assert attempt(flow, step) is None
            found = world.compare(flow, schema)
            outcome.record(found, readers.seen, message=failure.message, mended_by=f"room or rights, then {RETRY}")
            sweep(flow)


@pytest.mark.fault(S3, "503 to every request: an ingest writes, a release reads; then to some")
def test_busy_s3_costs_a_retry(world: World, outcome: Outcome, s3_server: Storage) -> None:
    _on_s3(world, outcome, s3_server, S3Fault("503"), some=S3Fault("503", count=2))


@pytest.mark.fault(S3, "cuts every transfer: an ingest writes, a release reads; then some")
def test_cut_transfers_cost_a_retry(world: World, outcome: Outcome, s3_server: Storage) -> None:
    _on_s3(world, outcome, s3_server, S3Fault("cut"), some=S3Fault("cut", count=1))


def _on_s3(world: World, outcome: Outcome, server: Storage, all_of_them: S3Fault, some: S3Fault) -> None:
    for state, step, check in (
        (RELEASED, partial(ingest, streams=("entries", "treatments")), "bronze"),
        (BUILT, release, ""),
    ):
        with s3_front(_bucket(server)) as front, world.copy(state, front.storage) as flow:
            with Readers(flow, lake=False) as readers:
                front.fail(all_of_them)
                failure = attempt(flow, step)
                assert front.befallen and failure is not None and failure.action == "RETRY", failure
                front.fail(some)
                again = attempt(flow, step)
                assert front.befallen
                front.heal()
                assert again is None or (again.action == "RETRY" and attempt(flow, step) is None), again
            besides = "" if again else f"{some.count} such answers in a row: the step itself asks again"
            if check:
                assert attempt(flow, partial(ingest, streams=("devicestatus", "profile"))) is None
            found = world.compare(flow, "bronze") if check else compare(flow, world.clean)
            outcome.record(found, readers.seen, message=failure.message, mended_by=RETRY, besides=besides)
            assert fsck.check(flow.lake, deep=True).current == []
            sweep(flow)


@pytest.mark.fault(S3, "every answer takes half a second")
def test_slow_s3_only_takes_longer(world: World, outcome: Outcome, s3_server: Storage) -> None:
    with s3_front(_bucket(s3_server)) as front, world.copy(RELEASED, front.storage) as flow:
        front.fail(S3Fault("slow", delay=0.5))
        failure = attempt(flow, ingest)
        assert failure is None and front.befallen, failure
        asked = front.befallen
        front.heal()
        found = world.compare(flow, "bronze")
        outcome.record(found, message="nothing: it takes longer", mended_by="nothing", besides=f"{asked} slow answers")


def _bucket(server: Storage) -> Storage:
    bucket = f"faults-{uuid.uuid4().hex[:12]}"
    s3_client(server).create_bucket(Bucket=bucket)
    return replace(server, url=f"s3://{bucket}/lake")


DAMAGE = {
    "gold.mrt_glucose_readings": missing,
    "silver.fct_cgm_reading": cut,
    "gold.mrt_agp_hourly": flipped,
}


@pytest.mark.fault("File in storage deleted, truncated, flipped", "files of silver and gold, before a release")
def test_damage_stops_the_release_and_is_named_and_repaired(world: World, outcome: Outcome) -> None:
    with world.copy(BUILT) as flow:
        assert fsck.check(flow.lake, deep=True, marts=flow.marts).ok  # the hashes that are compared later
        with Readers(flow) as readers:
            for table, damage in DAMAGE.items():
                files = [file for file in catalog.read(flow.lake).live() if file.name == table]
                damage(Path(max(files, key=lambda file: file.size).path))
            failure = attempt(flow, release)
            assert failure is not None and "lake fsck" in failure.message, failure
            report = fsck.check(flow.lake, deep=True, marts=flow.marts)
            assert {item.file.name for item in report.current} == {*DAMAGE}
            fsck.repair(flow.lake, report)
            for step in (partial(silver), gold, release):
                assert attempt(flow, step) is None
        found = compare(flow, world.clean)
        mended_by = "`lake fsck --deep --repair`, then the build that it names"
        outcome.record(found, readers.seen, message=failure.message, mended_by=mended_by)
        for item in report.current:
            outcome.record(message=first_line(fsck.DamageError(str(item))), mended_by=mended_by)


@pytest.mark.fault("File in storage deleted", "a file that a published release is read from")
def test_readers_of_postgresql_do_not_notice_lost_files(world: World, outcome: Outcome) -> None:
    with world.copy(DONE) as flow:
        with Readers(flow, lake=False) as readers:
            newest = ledger.entries(flow.marts)[-1]
            file = next(
                each
                for each in catalog.read(flow.lake).live()
                if each.name == "gold.mrt_glucose_readings" and each.seen_at(newest.snapshot_id)
            )
            Path(file.path).unlink()
            report = fsck.check(flow.lake, marts=flow.marts)
            (found,) = report.damage
            assert not report.ok and newest.release_id in found.releases
            fsck.repair(flow.lake, report)
            assert attempt(flow, gold) is None and attempt(flow, release) is None
        outcome.record(
            compare(flow, world.clean),
            readers.seen,
            message=str(found),
            mended_by="`lake fsck --repair`, then the build that it names and a release",
        )
