"""DuckDB names its temporary files alike in every process, so no two may share a folder."""

from concurrent.futures import ThreadPoolExecutor

from include.lake.attach import Lake
from include.lake.dbt_environment import dbt_environment


def test_spilling_side_by_side_mixes_nothing_up_and_leaves_nothing(lake: Lake) -> None:
    def hold_more_than_fits(seed: int) -> tuple:
        with lake.open(read_only=True) as connection:
            connection.execute("set memory_limit = '64MB'; set threads = 1")
            text = f"md5((n + {seed})::varchar) || md5((n - {seed})::varchar)"
            connection.execute(f"create temp table held as select n, {text} as text from range(2000000) as t (n)")
            (spilled,) = connection.execute("select count(*) from duckdb_temporary_files()").fetchone() or (0,)
            assert spilled > 0, "nothing was spilled, so this proves nothing"
            return connection.execute(f"select count(*), sum(n), bool_and(text = {text}) from held").fetchone() or ()

    lake.open().close()
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(hold_more_than_fits, range(3)))
    assert found == [(2_000_000, 1_999_999_000_000, True)] * 3
    assert list(lake.temp_directory.iterdir()) == []


def test_every_process_of_dbt_has_a_folder_of_its_own(lake: Lake) -> None:
    assert dbt_environment(lake)["LAKE_DBT_TEMP"] != dbt_environment(lake)["LAKE_DBT_TEMP"]
