"""The plugin in a real api-server, behind each of Airflow's auth managers."""

import re
import subprocess
import sys
from functools import cache
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from include.connections import Postgres
from include.settings import ROOT
from include.web.app import Site, create_app
from include.web.status import Sources
from tests.plugins.conftest import Airflow

HTML = {"accept": "text/html,application/xhtml+xml"}
JSON = {"accept": "application/json"}


@cache
def paths() -> list[str]:
    """Every route that the application has, below Airflow's root, so that a new one is tested as well."""
    postgres = Postgres("", 0, "", "")
    sources = Sources(None, list, lambda: postgres, lambda: None)  # type: ignore[arg-type, return-value]
    app = create_app(Site(sources, None, dict, str), lambda: None)  # type: ignore[arg-type]
    found = [f"/lakehouse{re.sub(r'{.*?}', '1', route.path)}" for route in app.routes]  # type: ignore[attr-defined]
    assert len(found) > 8
    return [*found, "/lakehouse/no/such/page", "/lakehouse/releases/abc"]


def test_no_route_answers_a_program_without_a_session(airflow: Airflow) -> None:
    with airflow.client(headers=JSON) as client:
        assert {path: client.get(path).status_code for path in paths()} == dict.fromkeys(paths(), 401)


def test_a_browser_without_a_session_gets_the_login_page(airflow: Airflow) -> None:
    with airflow.client(headers=HTML) as client:
        for path in paths():
            answer = client.get(path)
            assert answer.status_code == 302, path
            target = urlsplit(answer.headers["location"])
            assert target.path == f"{airflow.root}/api/v2/auth/login"
            assert parse_qs(target.query)["next"] == [f"{airflow.root}{path}"]
        page = client.get("/lakehouse/releases", follow_redirects=True)
    assert page.status_code == 200 and "/auth/login" in str(page.url) and "next=" in str(page.url)
    assert "scheduled__2026" not in page.text


@pytest.mark.parametrize("token", ["nonsense", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIiwicm9sZSI6IkFETUlOIn0."])
def test_a_bad_token_is_no_session(airflow: Airflow, token: str) -> None:
    with airflow.client() as client:
        bearer = {"authorization": f"Bearer {token}"}
        cookie = {"cookie": f"_token={token}"}
        for path in ("/lakehouse/status", "/lakehouse/releases", "/lakehouse/data-docs/"):
            assert client.get(path, headers={**JSON, **bearer}).status_code == 401
            assert client.get(path, headers={**HTML, **bearer}).status_code == 401
            assert client.get(path, headers={**JSON, **cookie}).status_code == 401
            assert client.get(path, headers={**HTML, **cookie}).status_code == 302


def test_a_session_of_another_airflow_is_none_here(simple: Airflow, fab: Airflow) -> None:
    """Both sign with one secret here, as two stages may by mistake; the audience differs or the user is not known."""
    with fab.client(headers={**JSON, "authorization": f"Bearer {simple.token('reader')}"}) as client:
        assert client.get("/lakehouse/releases").status_code == 401


def test_who_is_logged_in_sees_the_releases(airflow: Airflow) -> None:
    with airflow.browser("reader") as browser:
        page = browser.get("/lakehouse/releases")
    assert page.status_code == 200, page.text
    assert "chain verified" in page.text and "scheduled__2026-11-02" in page.text
    assert f'href="{airflow.root}/dags/nightscout_daily/runs/scheduled__2026-11-02"' in page.text
    assert "other_daily" not in page.text, "a run id is not unique: only a DAG of the domain may be linked"


def test_a_program_with_a_token_gets_json(airflow: Airflow) -> None:
    headers = {**JSON, "authorization": f"Bearer {airflow.token('reader')}"}
    with airflow.client(headers=headers) as client:
        answer = client.get("/lakehouse/releases").json()
    assert answer["chain"]["state"] == "verified"
    assert [found["release_id"] for found in answer["releases"]] == [2, 1]


def test_who_is_logged_in_sees_data_docs_and_status(airflow: Airflow) -> None:
    with airflow.browser("reader") as browser:
        docs = browser.get("/lakehouse/data-docs/")
        link = re.search(r'href="([^"]*/runs/scheduled__2026-11-02/index.html)"', docs.text)
        assert link, docs.text
        page = browser.get(httpx.URL(airflow.url).join(link[1]))
        assert page.status_code == 200 and "Gates of the run" in page.text
        status = browser.get("/lakehouse/status", headers=JSON).json()
    platform = {state["name"]: state for state in status["groups"][0]["states"]}
    assert platform["Marts database"]["level"] == platform["Lake"]["level"] == "ok", platform
    assert platform["Ledger chain"]["level"] == "ok", platform


def test_nothing_outside_of_the_runs_is_served(airflow: Airflow) -> None:
    with airflow.browser("reader") as browser:
        for path in (
            "../passwords.json",
            "%2e%2e/passwords.json",
            "..%2fpasswords.json",
            "runs/..%2f..%2fpasswords.json",
        ):
            url = f"{airflow.url}/lakehouse/data-docs/{path}"
            answer = browser.send(browser.build_request("GET", url.replace("/..", "/%2e%2e")))
            assert answer.status_code == 404 and "password-of-the-test" not in answer.text, path


def test_a_role_without_rights_sees_nothing(fab: Airflow) -> None:
    with fab.browser("nothing") as browser:
        for path in paths():
            answer = browser.get(path)
            assert answer.status_code == 403, path
            assert "scheduled__2026" not in answer.text
            assert browser.get(path, headers=JSON).status_code == 403


def test_the_pages_are_in_airflows_menu(simple: Airflow) -> None:
    headers = {"authorization": f"Bearer {simple.token('reader')}"}
    answer = httpx.get(f"{simple.url}/api/v2/plugins", headers=headers, timeout=60).json()
    found = next(plugin for plugin in answer["plugins"] if plugin["name"] == "lakehouse")
    views = {view["name"]: view for view in found["external_views"]}
    assert set(views) == {"Lakehouse", "Releases", "Data Docs", "dbt docs"}
    assert [app["url_prefix"] for app in found["fastapi_apps"]] == ["/lakehouse"]
    with simple.browser("reader") as browser:
        for view in views.values():
            assert view["url_route"] and view["destination"] == "nav"
            answer = browser.get(f"/{view['href']}")
            assert answer.status_code in (200, 404) and "Lakehouse</title>" in answer.text
            assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    errors = httpx.get(f"{simple.url}/api/v2/plugins/importErrors", headers=headers, timeout=60).json()
    assert errors["import_errors"] == []


def test_importing_the_plugin_imports_no_web_framework_and_no_engine() -> None:
    """Every component of Airflow imports it: scheduler, workers, triggerer."""
    code = (
        "import sys; import airflow.plugins_manager; known = set(sys.modules); "
        "from plugins import lakehouse; lakehouse.LakehousePlugin(); print(sorted(set(sys.modules) - known))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip().splitlines()[-1] == "['plugins', 'plugins.lakehouse']"
