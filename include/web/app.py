"""The web application of the pages. It lets nobody in by itself: whoever mounts it says who may read."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response

from include.errors import LakehouseError
from include.web import files, pages, quality, releases, status
from include.web.releases import Release

OWN_CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; frame-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
# Data Docs show values of the data, so nothing in them may run, and nothing may be loaded from elsewhere.
DOCS_CSP = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
# dbt's page is one file that builds itself in the browser. Without allow-same-origin it runs apart from Airflow: it
# has no cookie and cannot call the API in the reader's name.
DBT_CSP = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
    "font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
    "sandbox allow-scripts allow-downloads"
)
HEADERS = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": OWN_CSP,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}
DBT_HOW = "dbt docs generate --static"

PageNumber = Annotated[int, Query(ge=1, le=100_000)]
RunPaths = Callable[[Iterable[tuple[str, str]]], Mapping[tuple[str, str], str]]


class NotLoggedIn(Exception):
    """The request carries no session, or one that is not valid."""


class NotAllowed(Exception):
    """The session is valid, but may not read these pages."""


@dataclass(frozen=True)
class Site:
    """What the pages show, and where a reader who is not known is sent.

    Args:
        dbt_docs: the static page that dbt generates.
        run_paths: the paths of DAG runs in Airflow's own pages, below its root, by (domain, DAG run id); a run that
            Airflow no longer knows is left out.
        login_path: the path of the login page that leads back to the path it is given.
    """

    sources: status.Sources
    dbt_docs: Path
    run_paths: RunPaths
    login_path: Callable[[str], str]


def create_app(site: Site, may_read: Callable[..., Any]) -> FastAPI:
    """The application, to be mounted.

    Args:
        may_read: a FastAPI dependency that every route gets; it raises NotLoggedIn or NotAllowed.
    """
    app = FastAPI(
        title="Lakehouse pages", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(may_read)]
    )
    recent = status.Recent(site.sources)

    @app.middleware("http")
    async def headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.add_vary_header("Accept")
        return response

    @app.exception_handler(NotLoggedIn)
    async def not_logged_in(request: Request, error: NotLoggedIn) -> Response:
        if _wants_html(request) and "authorization" not in request.headers:
            back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(site.login_path(back), status_code=302)
        return JSONResponse({"detail": str(error)}, 401, {"WWW-Authenticate": "Bearer"})

    @app.exception_handler(NotAllowed)
    async def not_allowed(request: Request, error: NotAllowed) -> Response:
        return _message(request, 403, "Not allowed", str(error))

    @app.exception_handler(LakehouseError)
    async def unavailable(request: Request, error: LakehouseError) -> Response:
        return _message(request, 503, "This page cannot be shown now", str(error))

    @app.get("/")
    def home(request: Request) -> Response:
        return RedirectResponse(f"{_prefix(request)}/status", status_code=302)

    @app.get("/status")
    def status_page(request: Request) -> Response:
        found = recent.get()
        if not _wants_html(request):
            return JSONResponse({"level": found.level, **_plain(found)})
        return _page(request, "status", "status", status=found)

    @app.get("/releases")
    def releases_page(request: Request, page: PageNumber = 1) -> Response:
        ledger = releases.read(site.sources.marts())
        shown = ledger.page(page)
        if not _wants_html(request):
            return JSONResponse({"chain": asdict(ledger.chain), "pages": ledger.pages, "releases": _plain(shown)})
        return _page(
            request, "releases", "releases", ledger=ledger, releases=shown, page=page, runs=_runs(request, shown)
        )

    @app.get("/releases/{release_id}")
    def release_page(request: Request, release_id: int) -> Response:
        ledger = releases.read(site.sources.marts())
        found = ledger.find(release_id)
        if found is None:
            last = f"the last is {ledger.releases[0].release_id}" if ledger.releases else "nothing was released yet"
            return _message(request, 404, f"There is no release {release_id}", f"Of the releases, {last}.")
        if not _wants_html(request):
            return JSONResponse({"chain": asdict(ledger.chain), "release": asdict(found)})
        return _page(request, "release", "releases", release=found, chain=ledger.chain, runs=_runs(request, (found,)))

    @app.get("/data-docs/")
    def data_docs(request: Request, page: PageNumber = 1) -> Response:
        found, last = quality.runs(site.sources.quality_dir, page)
        if not _wants_html(request):
            return JSONResponse({"pages": last, "runs": [asdict(run) for run in found]})
        return _page(request, "data_docs", "data-docs", runs=found, page=page, pages=last, gates=quality.GATES)

    @app.get("/data-docs/index.html")
    def data_docs_index(request: Request) -> Response:
        return RedirectResponse(f"{_prefix(request)}/data-docs/", status_code=302)

    @app.get("/data-docs/{path:path}")
    def data_docs_file(request: Request, path: str) -> Response:
        file = files.find_file(site.sources.quality_dir / "runs", path.removeprefix("runs/"))
        if file is None or not path.startswith("runs/"):
            return _message(request, 404, "No such page", "Data Docs hold no such file; see the list of runs.")
        # A page's links are relative to where it is, so a folder's page must be asked for by its own name.
        if file.name == "index.html" and not path.endswith("index.html"):
            return RedirectResponse(f"{_prefix(request)}/data-docs/{path.rstrip('/')}/index.html", status_code=302)
        return _file(file, DOCS_CSP)

    @app.get("/dbt-docs/")
    def dbt_docs(request: Request) -> Response:
        if not site.dbt_docs.is_file():
            reason = f"There is no {site.dbt_docs}; `make setup` makes it, or `{DBT_HOW}` in the dbt project."
            return _message(request, 404, "dbt docs are not made yet", reason)
        return _page(request, "dbt_docs", "dbt-docs")

    @app.get("/dbt-docs/static_index.html")
    def dbt_docs_file(request: Request) -> Response:
        if not site.dbt_docs.is_file():
            return RedirectResponse(f"{_prefix(request)}/dbt-docs/", status_code=302)
        return _file(site.dbt_docs, DBT_CSP)

    @app.get("/static/{path:path}")
    def static(request: Request, path: str) -> Response:
        file = files.find_file(pages.STATIC, path)
        return _file(file, OWN_CSP) if file else _message(request, 404, "No such file", "See the pages above.")

    # The last route, so that what does not exist asks for a login as well.
    @app.get("/{path:path}")
    def nothing_here(request: Request, path: str) -> Response:
        return _message(request, 404, "No such page", "See the pages above.")

    def _runs(request: Request, shown: Iterable[Release]) -> dict[int, str]:
        """Where the run of each release is in Airflow, by release id."""
        shown = list(shown)
        paths = site.run_paths({(release.domain, release.dag_run_id) for release in shown})
        root = _prefix(request).rpartition("/")[0]
        found = {release.release_id: paths.get((release.domain, release.dag_run_id)) for release in shown}
        return {release_id: f"{root}{path}" for release_id, path in found.items() if path}

    return app


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _prefix(request: Request) -> str:
    """Where the application is mounted, without a slash at the end."""
    return request.scope.get("root_path", "").rstrip("/")


def _page(request: Request, template: str, tab: str, code: int = 200, **values: Any) -> Response:
    return HTMLResponse(pages.render(template, prefix=_prefix(request), tab=tab, **values), code)


def _message(request: Request, code: int, title: str, text: str) -> Response:
    if not _wants_html(request):
        return JSONResponse({"detail": f"{title}. {text}"}, code)
    return _page(request, "message", "", code, title=title, text=text)


def _file(path: Path, csp: str) -> Response:
    return FileResponse(path, media_type=files.content_type(path), headers={"Content-Security-Policy": csp})


def _plain(value: Any) -> Any:
    from fastapi.encoders import jsonable_encoder

    return jsonable_encoder(value)
