import re
import subprocess
import sys

import pytest
from fastapi.routing import APIRoute

from include.settings import ROOT
from include.web import pages
from include.web.app import NotAllowed, NotLoggedIn
from tests.include.web.conftest import HTML, JSON, PREFIX, Pages


def nobody() -> None:
    raise NotLoggedIn("Not authenticated")


def somebody_without_rights() -> None:
    raise NotAllowed("Ask an administrator.")


def test_a_browser_without_a_session_goes_to_the_login_and_back(site: Pages) -> None:
    answer = site.client(nobody).get(f"{PREFIX}/releases?page=2", headers=HTML)
    assert answer.status_code == 302
    assert answer.headers["location"] == "/login?next=/lakehouse/releases?page=2"


@pytest.mark.parametrize("headers", [{}, JSON, {**HTML, "authorization": "Bearer wrong"}])
def test_a_program_without_a_session_gets_401(site: Pages, headers: dict[str, str]) -> None:
    answer = site.client(nobody).get(f"{PREFIX}/releases", headers=headers)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("headers", [HTML, JSON])
def test_a_session_without_rights_gets_403(site: Pages, headers: dict[str, str]) -> None:
    answer = site.client(somebody_without_rights).get(f"{PREFIX}/data-docs/", headers=headers)
    assert answer.status_code == 403 and "Ask an administrator." in answer.text


def test_every_route_asks_who_is_there(site: Pages) -> None:
    """A mount would not: FastAPI gives an application's dependencies to its own routes only."""
    app = site.client().app.routes[-1].app
    assert [route for route in app.routes if not isinstance(route, APIRoute)] == []
    client = site.client(nobody)
    for route in app.routes:
        path = re.sub(r"\{.*?\}", "1", route.path)
        assert client.get(f"{PREFIX}{path}").status_code == 401, route.path


def test_a_path_that_does_not_exist_tells_nothing_without_a_session(site: Pages) -> None:
    for path in ("/nothing", "/docs", "/openapi.json", "/releases/abc", "/releases?page=zero"):
        assert site.client(nobody).get(f"{PREFIX}{path}", headers=JSON).status_code == 401
    site.html("/nothing", 404)
    site.json("/openapi.json", 404)


def test_every_answer_keeps_others_out(site: Pages) -> None:
    for path in ("/status", "/releases", "/data-docs/", "/nothing", "/static/lakehouse.css"):
        headers = site.client().get(f"{PREFIX}{path}", headers=HTML).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["cache-control"] == "private, no-cache"


def test_links_hold_below_any_root(site: Pages) -> None:
    client = site.client()
    client.app.root_path = "/airflow"
    page = client.get("/airflow/lakehouse/data-docs/", headers=HTML).text
    assert 'href="/airflow/lakehouse/releases"' in page and 'href="/lakehouse' not in page


def test_the_root_leads_to_the_status(site: Pages) -> None:
    assert site.client().get(f"{PREFIX}/").headers["location"] == f"{PREFIX}/status"


def test_dbt_docs_are_shown_apart_from_airflow(site: Pages) -> None:
    site.dbt_docs.write_text("<html>dbt</html>")
    assert f'src="{PREFIX}/dbt-docs/static_index.html"' in site.html("/dbt-docs/")
    answer = site.client().get(f"{PREFIX}/dbt-docs/static_index.html", headers=HTML)
    assert answer.text == "<html>dbt</html>"
    policy = answer.headers["content-security-policy"]
    assert "sandbox allow-scripts" in policy and "allow-same-origin" not in policy and "connect-src" not in policy


def test_dbt_docs_that_are_not_made_yet_say_how(site: Pages) -> None:
    assert "dbt docs generate --static" in site.html("/dbt-docs/", 404)
    assert site.client().get(f"{PREFIX}/dbt-docs/static_index.html", headers=HTML).status_code == 302


def test_no_page_names_another_host() -> None:
    for folder in (pages.HERE / "templates", pages.STATIC):
        for path in folder.iterdir():
            assert not re.search(r"(https?:)?//[a-z]", path.read_text().replace("// ", "")), path


def test_no_page_runs_a_script_of_its_own_text() -> None:
    for path in (pages.HERE / "templates").iterdir():
        text = path.read_text()
        assert not re.search(r"<script(?! src=)|\son[a-z]+=|<style|\sstyle=|\|\s*safe", text), path


@pytest.mark.parametrize("path", ["../app.py", "%2e%2e/app.py", "templates/base.html", "nothing.css"])
def test_only_static_files_are_served_as_such(site: Pages, path: str) -> None:
    assert site.client().get(f"{PREFIX}/static/{path}", headers=HTML).status_code == 404


def test_the_modules_of_the_pages_are_light_to_import() -> None:
    """The api-server imports them; what is heavy is imported when a page needs it."""
    code = (
        "import sys, include.web.app; print([m for m in ('duckdb', 'dlt', 'great_expectations') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
