import html
import json
from datetime import date

import psycopg
import pytest

from include.connections import Postgres
from include.release import ledger
from include.web import releases
from tests.include.web import sample
from tests.include.web.conftest import HTML, PREFIX, Pages


def test_every_release_is_listed_newest_first_with_its_proof(released: Pages) -> None:
    released.run_paths = {("nightscout", "scheduled__2026-11-02"): "/dags/nightscout_daily/runs/scheduled__2026-11-02"}
    page = released.html("/releases")
    entries = ledger.entries(released.marts)
    assert page.index("scheduled__2026-11-02") < page.index("scheduled__2026-11-01")
    assert 'href="/dags/nightscout_daily/runs/scheduled__2026-11-02"' in page
    assert entries[0].entry_hash in page and entries[1].entry_hash in page
    assert entries[1].marts["mrt_daily_glycaemia"]["sha256"] in page
    assert 'href="/lakehouse/data-docs/runs/scheduled__2026-11-02/index.html"' in page
    assert "chain verified" in page and "2 entries recomputed" in page


def test_a_run_that_airflow_no_longer_knows_is_named_without_a_link(released: Pages) -> None:
    page = released.html("/releases")
    assert "scheduled__2026-11-02" in page and "data-airflow" not in page


def test_json_and_html_say_the_same(released: Pages) -> None:
    answer = released.json("/releases")
    assert [found["release_id"] for found in answer["releases"]] == [2, 1]
    assert answer["chain"]["state"] == "verified"
    assert released.json("/releases/1")["release"]["marts"][0]["rows"] == 3


def test_a_release_shows_every_hash_whole(released: Pages) -> None:
    entry = ledger.entry(released.marts, 2)
    page = released.html("/releases/2")
    for text in (entry.entry_hash, entry.previous_hash, entry.marts["mrt_daily_glycaemia"]["sha256"], "c0ffee12"):
        assert str(text) in page
    assert "lake reproduce mrt_daily_glycaemia --release 2" in page


def test_a_rollback_marks_what_it_took_back_and_what_readers_see(released: Pages) -> None:
    sample.roll_back(released.lake, released.marts, 1)
    found = {item.release_id: item for item in releases.read(released.marts).releases}
    assert found[1].current and found[1].withdrawn_by is None
    assert not found[2].current and found[2].withdrawn_by == 3
    assert found[3].is_rollback and found[3].rolled_back_to == 1
    page = released.html("/releases")
    assert "rollback to" in page and "taken back by" in page and "current" in page


def test_a_withdrawal_takes_back_what_was_released_and_is_what_readers_see(released: Pages) -> None:
    sample.withdraw(released.lake, released.marts)
    found = {item.release_id: item for item in releases.read(released.marts).releases}
    assert found[3].is_withdrawal and found[3].current and found[3].rows == 0
    assert {found[number].withdrawn_by for number in (1, 2)} == {3}
    assert "withdrawal: no rows are left" in released.html("/releases")
    assert "Withdrawal 3" in released.html("/releases/3")
    assert "as no rows were left" in released.html("/status")


def test_rolling_forward_again_makes_the_later_release_current(released: Pages) -> None:
    sample.roll_back(released.lake, released.marts, 1)
    sample.roll_back(released.lake, released.marts, 2)
    found = {item.release_id: item for item in releases.read(released.marts).releases}
    assert found[2].current and found[2].withdrawn_by is None
    assert not found[1].current


def test_a_tampered_entry_is_shown_as_broken(released: Pages) -> None:
    tamper(released, "update ledger.releases set code_version = 'another' where release_id = 1")
    page = released.html("/releases")
    assert "chain broken" in page and "Entry 1 was changed" in page and "chain verified" not in page
    assert 'class="bad"' in page
    chain = released.json("/releases/1")["chain"]
    assert (chain["state"], chain["first_bad"]) == ("broken", 1)


@pytest.mark.parametrize(
    "change",
    [
        """marts = '{"m": 5}'""",
        "marts = '[]'",
        """gates = '{"a": 1}'""",
        "gates = '[1, null]'",
        """gates = '[{"gate": null, "success": "yes"}]'""",
        "previous_hash = 'x'",
        "rolled_back_to = 77, kind = 'rollback'",
    ],
)
def test_whatever_is_tampered_with_the_page_says_so_and_still_shows(released: Pages, change: str) -> None:
    tamper(released, f"update ledger.releases set {change} where release_id = 2")
    assert "chain broken" in released.html("/releases")
    assert "chain broken" in released.html("/releases/2")


def test_what_the_ledger_holds_is_escaped(released: Pages) -> None:
    name = "<script>alert(1)</script>"
    sample.release(released.lake, released.marts, released.quality_dir, f"manual__{name}", date(2026, 11, 3), rows=6)
    tamper(
        released,
        "update ledger.releases set code_version = %s, domain = %s, marts = %s, gates = %s where release_id = 3",
        name,
        name,
        json.dumps({name: {"rows": 1, "sha256": name}}),
        json.dumps([{"gate": name, "docs": f'"onclick={name}', "success": True}]),
    )
    for path in ("/releases", "/releases/3", "/status"):
        page = released.html(path)
        assert name not in page and html.escape(name) in page
        assert '"onclick' not in page


def test_no_release_yet_is_said_and_not_called_verified(site: Pages, marts_server: Postgres) -> None:
    site.marts = marts_server
    page = site.html("/releases")
    assert "Nothing was released yet" in page and "not verified" in page and "chain verified" not in page


def test_a_release_that_is_not_there_is_404(released: Pages) -> None:
    assert "the last is 2" in released.html("/releases/3", 404)
    released.json("/releases/3", 404)


def test_a_database_that_is_down_is_a_sentence_without_the_password(site: Pages) -> None:
    for path in ("/releases", "/releases/1"):
        page = site.html(path, 503)
        assert "does not answer" in page and "connection `marts_reader`" in page and "very-secret-word" not in page


def test_a_long_ledger_is_shown_in_pages(released: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "PAGE", 1)
    first, second = released.html("/releases"), released.html("/releases?page=2")
    assert "scheduled__2026-11-01" not in first and "scheduled__2026-11-01" in second
    assert released.client().get(f"{PREFIX}/releases?page=0", headers=HTML).status_code == 422


def tamper(site: Pages, statement: str, *values: str) -> None:
    with psycopg.connect(site.marts.conninfo(), password=site.marts.password) as connection:
        connection.execute("alter table ledger.releases disable trigger all")
        connection.execute(statement, values or None)
