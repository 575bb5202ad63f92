"""Backups: whole or not there, incremental, of one moment, in a folder or a bucket."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from include.connections import Postgres, Storage
from include.lake import locks
from include.lake.attach import Lake
from include.lake.backup import BackupError, Location, _kept, backup, plan
from include.lake.files import Files, StorageError
from include.lake.restore import restore_aside
from include.release import certify
from include.settings import ROOT
from tests.include.release.building import Releasing, build, lake_connection, write

KEEP = 7
BIG = "select 'a' as site, date '2026-11-01' + (i % 9)::int as day, random() as mean from range(30000) t(i)"


def make(releasing: Releasing, backups: Storage, **changes):
    arguments = {"keep": KEEP, "code_version": "abc"} | changes
    return backup(releasing.lake, releasing.marts, backups, **arguments)


def names(storage: Storage, prefix: str = "") -> list[str]:
    return sorted(Files.of(storage, Path("unused")).sizes(prefix))


def test_second_backup_copies_only_what_is_new(releasing: Releasing, backups: Storage) -> None:
    releasing.release(build(releasing.lake, 1))
    write(releasing.lake, staging=BIG)
    before = plan(releasing.lake, backups, keep=KEEP)
    assert (before.files, before.new_files) == (2, 2)
    first = make(releasing, backups)
    assert first.copied == {"files": 2, "bytes": before.new_size}
    assert plan(releasing.lake, backups, keep=KEEP).new_files == 0
    copied = Path(backups.url, names(backups, "files/")[0])
    when = copied.stat().st_mtime_ns

    write(releasing.lake, more=BIG)
    second = make(releasing, backups)
    assert second.copied["files"] == 1
    assert set(first.files) < set(second.files)
    assert copied.stat().st_mtime_ns == when
    assert make(releasing, backups).copied == {"files": 0, "bytes": 0}


def test_backup_says_what_it_holds(releasing: Releasing, backups: Storage) -> None:
    for version in (1, 2):
        last = releasing.release(build(releasing.lake, version))
    made = make(releasing, backups)
    (listed,) = Location(backups, releasing.lake.temp_directory).listed()
    assert listed.manifest == made
    assert [each["release_id"] for each in made.releases] == [1, 2]
    assert (made.ledger_entries, made.ledger_head) == (2, last.entry.entry_hash)
    assert made.versions["code"] == "abc"
    assert made.snapshot_id > last.entry.snapshot_id  # the views were repointed after it
    assert made.holds(2) and not made.holds(3)


def test_backup_to_a_bucket_restores(releasing: Releasing, s3_lake: Lake) -> None:
    """From a bucket to another bucket and back, through signed requests."""
    s3 = Releasing(s3_lake, releasing.marts)
    write(s3_lake, staging=BIG)
    s3.release(build(s3_lake, 1))
    bucket = make_bucket(s3_lake.storage)
    made = make(s3, bucket)
    assert made.copied["files"] == 2
    assert make(s3, bucket).copied["files"] == 0
    where = replace(s3_lake.storage, url=f"{make_bucket(s3_lake.storage).url}/aside")
    _, aside, compared = restore_aside(s3_lake, s3.marts, bucket, where)
    assert (compared.marts, compared.rows) == (2, 29)
    with aside.lake.open(read_only=True) as restored:
        there = restored.execute("select count(*), sum(mean) from gold.staging").fetchall()
    assert there == s3.view("select count(*), sum(mean) from dl.gold.staging")


def test_refused_bucket_is_named_without_its_secret(releasing: Releasing, s3_server: Storage, closed_port: int) -> None:
    releasing.release(build(releasing.lake, 1))
    place = make_bucket(s3_server)
    assert place.secret
    for changes, code, retryable in (
        ({"secret": "wrong-secret-of-somebody"}, "SignatureDoesNotMatch", False),
        ({"url": "s3://no-such-bucket-here"}, "NoSuchBucket", False),
        ({"endpoint": f"http://127.0.0.1:{closed_port}"}, "EndpointConnectionError", True),
    ):
        wrong = replace(place, **changes)
        with pytest.raises(StorageError, match=rf"{wrong.url} at .* refused .*{code}") as raised:
            make(releasing, wrong)
        assert raised.value.retryable is retryable
        assert place.secret not in str(raised.value) and "wrong-secret" not in str(raised.value)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_bucket(storage: Storage) -> Storage:
    from include.lake.files import s3_client

    name = f"backup-{uuid.uuid4().hex[:8]}"
    s3_client(storage).create_bucket(Bucket=name)
    return replace(storage, url=f"s3://{name}")


KILLED = """
import json, os, signal, sys
from pathlib import Path
from include.connections import Postgres, Storage
from include.lake.attach import Lake
from include.lake import backup as backups
from include.lake.files import Files

given = json.loads(sys.argv[1])
lake = Lake(Postgres(**given["catalog"]), Storage(given["lake"]), Path(given["extensions"]), Path(given["temp"]))
point = given["point"]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def progress(what, done, of):
    if (what, done) == tuple(point):
        die()

put = Files.of(Storage(given["backups"]), lake.temp_directory).__class__.put
def dying(self, path, incoming):
    if path.endswith(point[0]):
        die()
    put(self, path, incoming)

if point[1] is None:
    Files.of(Storage(given["backups"]), lake.temp_directory).__class__.put = dying
backups.backup(lake, Postgres(**given["marts"]), Storage(given["backups"]), keep=7, code_version="x", progress=progress)
"""


@pytest.mark.parametrize(
    ("point", "copied"),
    [(["copying files", 3], 3), (["dumping the databases", 1], 0), (["manifest.json", None], 7)],
    ids=["copying", "dumping", "before the manifest"],
)
def test_killed_backup_is_none_and_the_next_takes_up_its_files(
    releasing: Releasing, backups: Storage, point: list, copied: int
) -> None:
    releasing.release(build(releasing.lake, 1))
    write(releasing.lake, **{f"t{number}": BIG for number in range(6)})
    killed_backup(releasing, backups, point)
    location = Location(backups, releasing.lake.temp_directory)
    assert location.ids() == []
    left = names(backups)
    assert left
    done = len(names(backups, "files/"))
    assert done >= copied  # others may have been under way

    made = make(releasing, backups)
    assert made.copied["files"] == 7 - done
    assert location.ids() == [made.backup_id]
    assert set(names(backups)) == {*made.stored, f"backups/{made.backup_id}/manifest.json"}
    assert not Path(backups.url, ".incoming").exists() or not any(Path(backups.url, ".incoming").iterdir())


def killed_backup(releasing: Releasing, backups: Storage, point: list) -> None:
    given = {
        "catalog": releasing.lake.catalog.__dict__,
        "marts": releasing.marts.__dict__,
        "lake": releasing.lake.storage.url,
        "extensions": str(releasing.lake.extensions),
        "temp": str(releasing.lake.temp_directory),
        "backups": backups.url,
        "point": point,
    }
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(given)], cwd=ROOT, env={**os.environ}, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_file_that_the_catalog_names_and_the_storage_lacks_makes_no_backup(
    releasing: Releasing, backups: Storage
) -> None:
    write(releasing.lake, staging=BIG)
    releasing.release(build(releasing.lake, 1))
    (file,) = Path(releasing.lake.storage.url, "gold", "staging").rglob("*.parquet")
    whole = file.read_bytes()
    for content, says in ((whole[:-1], "bytes and the catalog says"), (None, "is not there")):
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(BackupError, match=rf"staging/.*{says}.*none was made"):
            make(releasing, backups)
        assert Location(backups, releasing.lake.temp_directory).ids() == []


def test_backup_beside_a_writer_is_of_one_moment(releasing: Releasing, backups: Storage) -> None:
    """A writer keeps two tables equal, in files and in rows that the catalog itself holds, while backups are made."""
    lake, stop = releasing.lake, threading.Event()
    releasing.release(build(lake, 1))
    write(lake, a=BIG, b="from gold.a")
    rounds = 0

    def keep_writing() -> None:
        nonlocal rounds
        with lake.open() as writer:
            while not stop.is_set():
                rounds += 1
                size = 3 if rounds % 2 else 2000
                writer.execute("begin")
                for table in ("a", "b"):
                    writer.execute(
                        f"insert into gold.{table} select 'w', date '2026-11-01', {rounds} from range({size})"
                    )
                    writer.execute(f"delete from gold.{table} where mean = {rounds - 1}")
                writer.execute("commit")

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        made = [make(releasing, backups) for _ in range(2)]
    finally:
        stop.set()
        writer.join()
    assert made[0].snapshot_id < made[1].snapshot_id, "the writer wrote nothing meanwhile"
    _, aside, _ = restore_aside(lake, releasing.marts, backups, Storage(str(lake.temp_directory / "aside")))
    with aside.lake.open(read_only=True) as restored:
        counts = restored.execute("select (select count(*) from gold.a), (select count(*) from gold.b)").fetchone()
        assert counts is not None and counts[0] == counts[1] > 30000
        assert restored.execute("from gold.a except all from gold.b").fetchall() == []


def test_backup_waits_for_a_release_that_is_between_its_two_transactions(
    releasing: Releasing, backups: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the lake's views would speak of a release that the backup's ledger lacks, or the other way round."""
    location = Location(backups, releasing.lake.temp_directory)
    repoint, made, dumped = certify.repoint, [], threading.Event()

    def back_up() -> None:
        made.append(make(releasing, backups, progress=lambda what, done, of: dumped.set()))

    beside = threading.Thread(target=back_up)

    def slowly(connection, entry):
        beside.start()
        assert not dumped.wait(1.5)
        return repoint(connection, entry)

    releasing.release(build(releasing.lake, 1))
    snapshot_id = build(releasing.lake, 2)
    with monkeypatch.context() as patched:
        patched.setattr(certify, "repoint", lambda c, e: repoint(c, e) if e.release_id == 1 else slowly(c, e))
        releasing.release(snapshot_id)
    beside.join()
    assert made and made[0].holds(2)
    aside = Storage(str(releasing.lake.temp_directory / "aside"))
    assert restore_aside(releasing.lake, releasing.marts, backups, aside)[2].marts == 2
    assert location.ids() == [made[0].backup_id]


def test_no_cleanup_deletes_a_file_while_it_is_copied(releasing: Releasing, backups: Storage) -> None:
    write(releasing.lake, staging=BIG)
    releasing.release(build(releasing.lake, 1))
    refused = []

    def try_to_clean(what: str, done: int, of: int) -> None:
        if what == "copying files" and not refused:
            with pytest.raises(locks.LockError), locks.cleanup(releasing.lake.catalog, seconds=1):
                pass
            refused.append(True)

    make(releasing, backups, progress=try_to_clean)
    assert refused


def test_old_backups_go_with_the_files_that_only_they_needed(releasing: Releasing, backups: Storage) -> None:
    lake = releasing.lake
    releasing.release(build(lake, 1))
    write(lake, staging=BIG)
    made = [make(releasing, backups)]
    lake_connection(lake).execute("drop table dl.gold.staging")
    lake_connection(lake).execute(
        f"call ducklake_expire_snapshots('dl', versions => [{made[0].snapshot_id - 1}, {made[0].snapshot_id}])"
    )
    location = Location(backups, lake.temp_directory)
    age(location, made[0].backup_id, "20200101T000000Z")
    write(lake, other=BIG)

    will = plan(lake, backups, keep=1)
    assert will.pruning.backups == ("20200101T000000Z",)
    assert [name.split("/")[2] for name in will.pruning.files] == ["staging"]
    assert len(names(backups, "files/")) == 2, "a plan changes nothing"
    made.append(make(releasing, backups, keep=1))
    assert location.ids() == [made[1].backup_id]
    assert set(names(backups)) == {*made[1].stored, f"backups/{made[1].backup_id}/manifest.json"}


def age(location: Location, backup_id: str, new_id: str) -> None:
    """Give a backup another date."""
    manifest = replace(location.manifest(backup_id), backup_id=new_id)
    folder = Path(location.storage.url, "backups")
    (folder / backup_id).rename(folder / new_id)
    (folder / new_id / "manifest.json").write_bytes(manifest.as_json())


def test_all_of_the_newest_day_and_the_last_of_each_day_before_are_kept() -> None:
    ids = ["20261101T000000Z", "20261103T000000Z", "20261103T120000Z", "20261109T000000Z", "20261109T120000Z"]
    assert _kept(ids, 2) == {"20261103T120000Z", "20261109T000000Z", "20261109T120000Z"}
    assert _kept(ids, 9) == set(ids) - {"20261103T000000Z"}
    assert _kept(ids, 0) == {"20261109T000000Z", "20261109T120000Z"}


def test_damaged_manifest_is_shown_and_nothing_is_pruned(releasing: Releasing, backups: Storage) -> None:
    releasing.release(build(releasing.lake, 1))
    made = make(releasing, backups)
    location = Location(backups, releasing.lake.temp_directory)
    path = Path(backups.url, "backups", made.backup_id, "manifest.json")
    path.write_bytes(path.read_bytes().replace(b'"snapshot_id": ', b'"snapshot_id": 1', 1))
    (listed,) = location.listed()
    assert listed.manifest is None
    assert "does not have the hash that it states" in listed.problem
    age_of_it = path.parent.rename(path.parent.with_name("20990101T000000Z"))
    with pytest.raises(BackupError, match="damaged"):
        make(releasing, backups)
    assert age_of_it.is_dir()


def test_backup_inside_the_lakes_own_storage_is_refused(releasing: Releasing) -> None:
    inside = Storage(f"{releasing.lake.storage.url}/backup")
    for attempt in (make, lambda it, where: plan(it.lake, where, keep=1)):
        with pytest.raises(BackupError, match="must survive its loss"):
            attempt(releasing, inside)


def test_database_without_a_lake_is_a_sentence(lake: Lake, marts_server: Postgres, backups: Storage) -> None:
    with pytest.raises(BackupError, match="holds no lake"):
        backup(lake, marts_server, backups, keep=1, code_version="x")
