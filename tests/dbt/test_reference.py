"""34,890 real readings against the reference implementation of CGM metrics."""

import csv
from datetime import UTC, date, datetime
from pathlib import Path

from include.lake.attach import Lake
from tests.dbt.bronze import create_bronze, entry, load
from tests.dbt.conftest import Dbt

COLUMNS = {
    "mean": "mean_mg_dl",
    "SD": "sd_mg_dl",
    "CV": "cv_pct",
    "GMI": "gmi_pct",
    "in_range_70_180": "in_range_70_180_pct",
    "in_range_70_140": "in_range_70_140_pct",
    "below_54": "below_54_pct",
    "below_70": "below_70_pct",
    "above_180": "above_180_pct",
    "above_250": "above_250_pct",
    "LBGI": "lbgi",
    "HBGI": "hbgi",
    "GRI": "gri",
    "J_index": "j_index",
    "median": "median_mg_dl",
    "IQR": "iqr_mg_dl",
    "readings": "readings",
}


def test_every_cell_of_the_reference_is_matched(lake: Lake, dbt: Dbt, shared_data: Path) -> None:
    people: dict[str, list[dict]] = {}
    with (shared_data / "cgm_hall_2018.csv").open() as file:
        for row in csv.DictReader(file):
            site = f"p{row['id']}".lower().replace("_", "-")
            at = datetime.fromisoformat(row["time"]).replace(tzinfo=UTC)
            people.setdefault(site, []).append(entry(at, float(row["gl"]), site=site))
    create_bronze(lake)
    days = sorted({datetime.fromtimestamp(r["date"] / 1000, UTC).date() for rs in people.values() for r in rs})
    load(lake, "entries", days, [r for rs in people.values() for r in rs], sites=sorted(people))

    dbt(lake, "run", "--select", "+mrt_daily_glycaemia", "+mrt_quality_coverage")

    with lake.open() as connection:
        kept, duplicates = connection.execute(
            "select sum(received_readings), sum(duplicate_readings) from gold.mrt_quality_coverage"
        ).fetchall()[0]
        names = ", ".join(COLUMNS.values())
        found = {
            (site, day): values
            for site, day, *values in connection.execute(
                f"select site, local_date, {names} from gold.mrt_daily_glycaemia"
            ).fetchall()
        }
    assert (kept, duplicates) == (34_890, 0)
    with (shared_data / "cgm_hall_2018_daily_reference.csv").open() as file:
        expected = {
            (f"p{row['subject']}".lower().replace("_", "-"), date.fromisoformat(row["date"])): [
                float(row[name]) for name in COLUMNS
            ]
            for row in csv.DictReader(file)
        }
    assert len(expected) == 157
    assert found.keys() == expected.keys()
    worst = {
        name: max(abs(found[key][i] - expected[key][i]) for key in expected) for i, name in enumerate(COLUMNS.values())
    }
    assert {name: gap for name, gap in worst.items() if gap > 1e-6} == {}
