from dataclasses import replace
from pathlib import Path

import pytest

from include.errors import LakehouseError
from include.lake.attach import Lake
from include.web import lake_probe


@pytest.fixture
def released(lake: Lake) -> Lake:
    with lake.open() as connection:
        connection.execute("create schema gold; create schema marts")
        connection.execute("create table dl.gold.mrt_one as select range as n from range(3)")
        snapshot = connection.execute("select max(snapshot_id) from ducklake_snapshots('dl')").fetchone()[0]
        connection.execute(f"create view dl.marts.mrt_one as select * from dl.gold.mrt_one at (version => {snapshot})")
        connection.execute("insert into dl.gold.mrt_one values (99)")
    return lake


def test_the_probe_sees_each_view_its_pin_and_its_rows(released: Lake) -> None:
    answer = lake_probe.ask(released)
    view = answer.views["mrt_one"]
    assert view.rows == 3
    assert view.pinned_to is not None and view.pinned_to < answer.snapshot_id
    assert view.error == ""


def test_a_view_whose_snapshot_is_gone_is_an_error_and_not_a_count(released: Lake) -> None:
    pin = lake_probe.ask(released).views["mrt_one"].pinned_to
    with released.open() as connection:
        connection.execute("drop table dl.gold.mrt_one")
        connection.execute(f"call ducklake_expire_snapshots('dl', versions => [{pin}])")
    lost = lake_probe.ask(released).views["mrt_one"]
    assert lost.rows is None and lost.error


def test_a_lake_that_does_not_answer_is_an_error_without_the_password(lake: Lake) -> None:
    wrong = replace(lake, catalog=replace(lake.catalog, password="not-the-password-1234"))
    with pytest.raises(LakehouseError, match="does not answer") as raised:
        lake_probe.ask(wrong)
    assert "not-the-password-1234" not in str(raised.value)


def test_a_lake_that_hangs_is_given_up_in_time(lake: Lake) -> None:
    with pytest.raises(LakehouseError, match=r"within 0\.05 s"):
        lake_probe.ask(lake, seconds=0.05)


def test_a_missing_extension_folder_is_an_error(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(LakehouseError, match="does not answer"):
        lake_probe.ask(replace(lake, extensions=tmp_path / "nothing"))
