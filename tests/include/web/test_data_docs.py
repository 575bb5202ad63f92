import json
import os
from datetime import date
from pathlib import Path

import pytest

from include.interval import Interval
from include.web import files, quality
from tests.include.web import sample
from tests.include.web.conftest import HTML, PREFIX, Pages

DAY = Interval.of_days(date(2026, 11, 1), date(2026, 11, 2))
RUN = "runs/scheduled__2026-11-01"

OUTSIDE = [
    "../secret.txt",
    f"{RUN}/../../../secret.txt",
    f"{RUN}/%2e%2e/%2e%2e/%2e%2e/secret.txt",
    f"{RUN}/..%2f..%2f..%2fsecret.txt",
    f"{RUN}/%252e%252e/secret.txt",
    f"{RUN}/..\\..\\..\\secret.txt",
    "/etc/passwd",
    "runs//etc/passwd",
    f"{RUN}/link-out.txt",
    f"{RUN}/folder-out/secret.txt",
    f"{RUN}/.hidden.txt",
    f"{RUN}/\0.html",
    f"{RUN}/{'a' * 300}.html",
    "private.txt",
    RUN + "/nothing.html",
]


@pytest.fixture
def docs(site: Pages) -> Pages:
    """One run with three green gates; a secret beside the quality folder, and links in it that lead there."""
    for name in quality.GATES:
        sample.gate(site.quality_dir, name, "scheduled__2026-11-01", DAY, 42)
    folder = site.quality_dir / RUN
    secret = site.quality_dir.parent / "secret.txt"
    secret.write_text("the secret")
    (site.quality_dir / "private.txt").write_text("the secret")
    (folder / ".hidden.txt").write_text("the secret")
    (folder / "link-out.txt").symlink_to(secret)
    (folder / "folder-out").symlink_to(site.quality_dir.parent)
    return site


def test_runs_are_listed_with_each_gate_and_the_snapshot_it_read(docs: Pages) -> None:
    page = docs.html("/data-docs/")
    assert 'href="/lakehouse/data-docs/runs/scheduled__2026-11-01/index.html"' in page
    assert page.count("snapshot 42") == 3 and page.count(">green<") == 3 and ">red<" not in page
    assert [gate["gate"] for gate in docs.json("/data-docs/")["runs"][0]["gates"]] == list(quality.GATES)


def test_a_red_gate_and_one_without_a_result_are_not_green(site: Pages) -> None:
    sample.gate(site.quality_dir, "gate_bronze", "a", DAY, 7, success=False)
    page = site.html("/data-docs/")
    assert ">red<" in page and page.count(">no result<") == 2 and ">green<" not in page


def test_a_result_that_cannot_be_read_is_said_and_not_green(docs: Pages) -> None:
    (docs.quality_dir / RUN / "gate_gold.json").write_text('{"gate": "gate_gold", "success": true}')
    page = docs.html("/data-docs/")
    assert "Unreadable" in page and page.count(">green<") == 2


def test_the_newest_run_is_first(site: Pages) -> None:
    for number, run in enumerate(["b", "c", "a"]):
        sample.gate(site.quality_dir, "gate_gold", run, DAY, number)
        os.utime(site.quality_dir / "runs" / run, (number, number))
    assert [run.dag_run_id for run in quality.runs(site.quality_dir)[0]] == ["a", "c", "b"]


def test_many_runs_are_shown_in_pages(site: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "PAGE", 2)
    for run in ("a", "b", "c"):
        sample.gate(site.quality_dir, "gate_gold", run, DAY, 1)
    assert "Page 1 of 2" in site.html("/data-docs/") and "Page 2 of 2" in site.html("/data-docs/?page=2")


def test_no_run_yet_is_said(site: Pages) -> None:
    assert "No gate has run yet" in site.html("/data-docs/")


def test_run_ids_and_findings_are_escaped(site: Pages) -> None:
    run = "<script>alert(1)</script>"
    sample.gate(site.quality_dir, "gate_gold", run, DAY, 1)
    page = site.html("/data-docs/")
    assert run not in page and "&lt;script&gt;" in page


def test_a_page_of_data_docs_is_served_with_its_type_and_may_run_nothing(docs: Pages) -> None:
    answer = docs.client().get(f"{PREFIX}/data-docs/{RUN}/index.html", headers=HTML)
    assert answer.status_code == 200 and "Gates of the run" in answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "script-src" not in policy and "http" not in policy
    evidence = docs.client().get(f"{PREFIX}/data-docs/{RUN}/gate_gold.json")
    assert evidence.headers["content-type"] == "application/json" and evidence.json()["gate"] == "gate_gold"


def test_a_folder_leads_to_its_page_so_that_relative_links_hold(docs: Pages) -> None:
    for path in (RUN, f"{RUN}/"):
        answer = docs.client().get(f"{PREFIX}/data-docs/{path}", headers=HTML)
        assert answer.headers["location"] == f"{PREFIX}/data-docs/{RUN}/index.html"
    answer = docs.client().get(f"{PREFIX}/data-docs/index.html", headers=HTML)
    assert answer.headers["location"] == f"{PREFIX}/data-docs/"


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_of_the_runs_is_served(docs: Pages, path: str) -> None:
    answer = docs.client().get(f"{PREFIX}/data-docs/{path.replace(chr(0), '%00')}", headers=HTML)
    assert answer.status_code == 404, answer.text
    assert "the secret" not in answer.text and "root:" not in answer.text


@pytest.mark.parametrize("path", ["../secret.txt", "..", "a/../../secret.txt", "link-out.txt", ".hidden.txt", "\0"])
def test_a_path_that_leads_out_finds_no_file(docs: Pages, path: str) -> None:
    assert files.find_file(docs.quality_dir / RUN, path) is None


def test_a_file_of_an_unknown_kind_is_a_download(tmp_path: Path) -> None:
    assert files.content_type(tmp_path / "x.exe") == "application/octet-stream"


def test_the_results_of_another_domain_are_not_taken_for_this_one(docs: Pages) -> None:
    other = docs.quality_dir / "runs" / "other"
    other.mkdir()
    values = json.loads((docs.quality_dir / RUN / "gate_gold.json").read_text())
    (other / "gate_gold.json").write_text(json.dumps({**values, "domain": "saas", "success": False}))
    found = quality.latest(docs.quality_dir, "nightscout")["gate_gold"]
    assert found is not None and found.success
    assert quality.latest(docs.quality_dir, "commerce") == dict.fromkeys(quality.GATES)
