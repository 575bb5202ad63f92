import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from include import runtime
from include import settings as environment
from include.local.nightscout import Fault, NightscoutSite, SiteServer, serve
from include.sources.nightscout.__main__ import app, console
from tests.include.sources.nightscout.conftest import World, reading


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SiteServer]:
    """Serve sites, with the environment that names them."""
    stops = []

    def start(*sites: NightscoutSite) -> SiteServer:
        context = serve(sites)
        server = context.__enter__()
        stops.append(context)
        file = tmp_path / "sites.yaml"
        file.write_text(server.sites_yaml())
        monkeypatch.setenv("LAKE_NIGHTSCOUT_SITES", str(file))
        monkeypatch.setenv("LAKE_HOME", str(tmp_path / "home"))
        for name, value in server.connections().items():
            monkeypatch.setenv(name, value)
        environment.settings.cache_clear()
        return server

    yield start
    environment.settings.cache_clear()
    for context in stops:
        context.__exit__(None, None, None)


def two_sites() -> tuple[NightscoutSite, NightscoutSite]:
    amber, birch = NightscoutSite("amber"), NightscoutSite("birch", v3=False)
    for site in (amber, birch):
        site.add("entries", reading("2026-11-03T12:00:00", 111))
    return amber, birch


def run(*arguments: str) -> tuple[int, str]:
    console.width = 200  # whatever terminal the tests run in, tables must not wrap
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return done.exit_code, done.output


def test_help_lists_the_commands() -> None:
    code, output = run("--help")
    assert code == 0
    assert all(command in output for command in ("fetch", "load", "check"))


def test_fetch_counts_records_by_site_and_day(running: Callable[..., SiteServer]) -> None:
    running(*two_sites())
    code, output = run("fetch", "entries", "--from", "2026-11-03")
    assert code == 0
    assert [line.split("│")[1:5] for line in output.splitlines() if "2026-11-03 │" in line] == [
        [" amber ", " v3  ", " 2026-11-03 ", " 1       "],
        [" birch ", " v1  ", " 2026-11-03 ", " 1       "],
    ]


def test_fetch_prints_records_as_json_lines(running: Callable[..., SiteServer]) -> None:
    running(*two_sites())
    code, output = run("fetch", "entries", "--from", "2026-11-03", "--to", "2026-11-05", "--site", "birch", "--json")
    assert code == 0
    assert [(record["site"], record["sgv"]) for record in map(json.loads, output.splitlines())] == [("birch", 111)]


def test_check_says_what_each_site_allows_and_fails_if_one_is_down(running: Callable[..., SiteServer]) -> None:
    amber, birch = two_sites()
    running(amber, birch)
    code, output = run("check")
    assert code == 0
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in (
        line.split("│") for line in output.splitlines() if "│" in line)}  # fmt: skip
    assert rows["amber"][0] == "v3"
    assert "entries r" in rows["amber"][2]
    assert rows["amber"][3].endswith(" s")
    assert rows["amber"][4] == "2026-11-03 12:00 UTC"
    assert rows["birch"][0] == "v1"
    assert rows["birch"][2] == "read"
    birch.fail(Fault("401", count=None))
    code, output = run("check")
    assert code == 1
    assert "2026-11-03 12:00" in output
    assert "Site birch (connection nightscout_birch) refuses the access token" in output


def test_load_lands_in_the_lake(
    running: Callable[..., SiteServer], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(*two_sites())
    monkeypatch.setattr(runtime, "lake", lambda: world.lake)
    code, output = run("load", "entries", "--from", "2026-11-03", "--lookback-days", "0")
    assert code == 0, output
    assert world.rows("select site, interval_date from bronze.nightscout_entries where sgv = 111 order by 1") == [
        ("amber", date(2026, 11, 3)),
        ("birch", date(2026, 11, 3)),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fetch", "entires"], "no stream"),
        (["fetch", "entries", "--from", "yesterday"], "not a date"),
        (["fetch", "entries", "--to", "2026-11-03"], "needs --from"),
        (["fetch", "entries", "--site", "elm"], "not in the sites file"),
    ],
)
def test_wrong_argument_fails_with_a_sentence(
    running: Callable[..., SiteServer], arguments: list[str], said: str
) -> None:
    running(*two_sites())
    code, output = run(*arguments)
    assert code == 2
    assert said in output


def test_missing_connection_says_which_variable_to_set(
    running: Callable[..., SiteServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    running(*two_sites())
    monkeypatch.delenv("AIRFLOW_CONN_NIGHTSCOUT_AMBER")
    code, output = run("fetch", "entries")
    assert code == 1
    assert "AIRFLOW_CONN_NIGHTSCOUT_AMBER" in output
