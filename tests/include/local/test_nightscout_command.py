"""Demo sites: a CSV as sites, and the command that serves them."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from include.connections import Connection
from include.errors import SetupError
from include.local.nightscout import csv_sites, serve
from include.settings import ROOT

CSV = """id,time,gl,diagnosis
1636-69-A,2014-02-03 08:42:12,93.0,diabetic
1636-69-A,2014-02-03 08:47:12,93.5,diabetic
1636-69-A,2014-02-03 08:47:12,93.5,diabetic
2133-004,2015-03-29T02:30:00+02:00,180,
2133-004,2015-03-30 00:00:00,,
2133-004,2015-03-31 00:00:00,5000,
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "readings.csv"
    file.write_text(CSV)
    return file


def entries(address: str, token: str, **parameters: Any) -> list[dict[str, Any]]:
    query = {"token": token, "find[date][$gte]": 1, "count": 100_000} | parameters
    answer = httpx.get(f"{address}/api/v1/entries.json", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()[::-1]


def test_every_row_of_a_csv_is_served_by_its_person(file: Path) -> None:
    first, second = csv_sites(file)
    with serve([first, second]) as server:
        rows = entries(server.url(first), first.token)
        assert [(row["dateString"], row["sgv"]) for row in rows] == [
            ("2014-02-03T08:42:12.000Z", 93),
            ("2014-02-03T08:47:12.000Z", 93.5),
            ("2014-02-03T08:47:12.000Z", 93.5),
        ]
        assert len({row["identifier"] for row in rows}) == 3
        rows = entries(server.url("2133-004"), second.token)
        assert [(row["dateString"], row["sgv"]) for row in rows] == [
            ("2015-03-29T00:30:00.000Z", 180),
            ("2015-03-30T00:00:00.000Z", None),
            ("2015-03-31T00:00:00.000Z", 5000),
        ]
        assert yaml.safe_load(server.sites_yaml()) == {
            "sites": [
                {"site": "1636-69-a", "time_zone": "UTC", "units": "mg/dl"},
                {"site": "2133-004", "time_zone": "UTC", "units": "mg/dl"},
            ]
        }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,time\n1,2014-02-03\n", "has no column gl"),
        ("id,time,gl\n", "holds no reading"),
        ("id,time,gl\na,2014-02-03,93\na,yesterday,93\n", "line 3: expected a time"),
        ("id,time,gl\na,2014-02-03,many\n", "line 2: .* found '2014-02-03' and 'many'"),
        ("id,time,gl\na,2014-02-03\n", "line 2"),
        ("id,time,gl\na,2014-02-03,93\nA,2014-02-04,93\n", "A and a would be the same site"),
        ("id,time,gl\nMr X,2014-02-03,93\n", "Site id is 'mr x'"),
    ],
)
def test_csv_that_cannot_be_served_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "readings.csv"
    file.write_text(text)
    with pytest.raises(SetupError, match=message):
        csv_sites(file)


def test_missing_csv_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"none\.csv is not there"):
        csv_sites(tmp_path / "none.csv")


def test_all_real_readings_are_served_quickly(shared_data: Path) -> None:
    sites = csv_sites(shared_data / "cgm_hall_2018.csv")
    begun = time.perf_counter()
    with serve(sites) as server:
        served = {site.site: len(entries(server.url(site), site.token)) for site in sites}
    taken = time.perf_counter() - begun
    with (shared_data / "cgm_hall_2018.csv").open() as lines:
        assert sum(served.values()) == sum(1 for _ in lines) - 1
    assert len(served) == 19
    assert taken < 5


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "include.local.nightscout", "serve", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines_until_up(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if "interrupt to stop" in line:
            return lines
    pytest.fail(f"the server ended: {process.stderr and process.stderr.read()}")


def test_command_serves_writes_both_files_and_ends_on_sigterm(tmp_path: Path) -> None:
    sites, env, seed = tmp_path / "a" / "sites.yaml", tmp_path / "env", tmp_path / "seed"
    arguments = ["--port", "0", "--weeks", "1", "--until", "2026-11-01", "--secret-file", str(seed)]
    arguments += ["--write-sites", str(sites), "--write-env", str(env)]
    with command(*arguments) as process:
        lines = lines_until_up(process)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/amber  Europe/Berlin, mg/dl, API v1 and v3", lines[0])
        assert [site["site"] for site in yaml.safe_load(sites.read_text())["sites"]] == [
            "amber",
            "birch",
            "cedar",
            "dune",
        ]
        variables = dict(line.split("=", 1) for line in env.read_text().splitlines())
        amber = Connection.parse("amber", shlex.split(variables["AIRFLOW_CONN_NIGHTSCOUT_AMBER"])[0])
        assert {file.stat().st_mode & 0o777 for file in (env, seed)} == {0o600}
        found = entries(amber.extra["url"], amber.password or "", **{"find[date][$lt]": 1_793_491_200_000})
        assert len(found) > 1900
        assert found[-1]["dateString"].startswith("2026-10-31T23:5")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=5)
        assert (process.returncode, out, err) == (0, "", "")
    with command(*arguments) as process:
        lines_until_up(process)
        again = dict(line.split("=", 1) for line in env.read_text().splitlines())
    connection = Connection.parse("amber", shlex.split(again["AIRFLOW_CONN_NIGHTSCOUT_AMBER"])[0])
    assert connection.password == amber.password


def test_command_says_in_one_sentence_that_the_port_is_in_use(file: Path) -> None:
    with serve(csv_sites(file)) as server, command("--port", str(server.port), "--csv", str(file)) as process:
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out == ""
    assert err.strip() == (
        f"Port {server.port} on 127.0.0.1 is in use; stop what listens there or choose another port for the demo sites."
    )


def test_server_process_imports_nothing_heavy() -> None:
    code = (
        "import sys, include.local.nightscout.__main__; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'airflow', 'duckdb', 'dlt', 'pandas', 'numpy', 'pyarrow', 'httpx', 'great_expectations', 'pydantic'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
