"""Real readings through the HTTP API, the whole flow and PostgreSQL, against the reference implementation."""

import csv
from datetime import date
from pathlib import Path

import psycopg
import pytest

from include.local.nightscout import csv_sites
from tests.pipeline.conftest import MakeFlow

# reference column: our column
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


def test_every_cell_of_the_reference_is_matched(make_flow: MakeFlow, shared_data: Path) -> None:
    flow = make_flow(csv_sites(shared_data / "cgm_hall_2018.csv"))
    flow.run(date(2014, 2, 1), date(2017, 6, 16))
    with (shared_data / "cgm_hall_2018_daily_reference.csv").open() as file:
        reference = {(row["subject"].lower(), row["date"]): row for row in csv.DictReader(file)}
    names = ", ".join(COLUMNS.values())
    with psycopg.connect(flow.marts.conninfo()) as connection:
        cursor = connection.execute(
            f"select site, local_date, {names} from marts.mrt_daily_glycaemia where readings > 0"
        )
        ours = {(row[0], str(row[1])): row[2:] for row in cursor}
    assert ours.keys() == reference.keys()
    wrong = [
        (key, theirs_name, value, reference[key][theirs_name])
        for key, values in ours.items()
        for theirs_name, value in zip(COLUMNS, values, strict=True)
        if (value is None) != (reference[key][theirs_name] == "")
        or (value is not None and float(value) != pytest.approx(float(reference[key][theirs_name]), abs=1e-6))
    ]
    assert wrong == []
    assert sum(int(row["readings"]) for row in reference.values()) == 34_890
