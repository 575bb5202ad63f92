"""Data Docs, dbt docs, releases and status in Airflow's menu, behind Airflow's login.

Airflow mounts a plugin's application without a login of its own, so every route here asks Airflow's auth manager.
Every component of Airflow imports this module; what is heavy waits until the api-server asks for the application.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/lakehouse"


def _view(name: str, path: str, category: str | None, *, top: bool = False) -> dict[str, Any]:
    # Relative, as Airflow's pages have a base address: it is right under any [api] base_url.
    route = f"lakehouse-{path.strip('/')}"
    view = {"name": name, "href": f"{PREFIX[1:]}/{path}", "url_route": route, "destination": "nav"}
    return {**view, "category": category, "nav_top_level": top} if category else {**view, "nav_top_level": top}


class LakehousePlugin(AirflowPlugin):
    name = "lakehouse"
    external_views = [  # noqa: RUF012
        _view("Lakehouse", "status", None, top=True),
        _view("Releases", "releases", "browse"),
        _view("Data Docs", "data-docs/", "browse"),
        _view("dbt docs", "dbt-docs/", "docs"),
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        return [{"app": _app(), "url_prefix": PREFIX, "name": "Lakehouse pages"}]


def _app() -> Any:
    from airflow.api_fastapi.app import API_ROOT_PATH
    from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
    from fastapi import Depends, HTTPException, Request
    from fastapi.security import HTTPAuthorizationCredentials

    from include import dbt_project, runtime
    from include.settings import settings
    from include.web.app import NotLoggedIn, Site, create_app
    from include.web.status import Sources, project_domains

    Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]

    async def user(request: Request, bearer: Bearer) -> Any:
        """The user of the session cookie or of the bearer token, as Airflow's own pages find it."""
        try:
            return await get_user(request, None, bearer)
        except HTTPException as error:
            raise NotLoggedIn(str(error.detail)) from error

    def may_read(user: Annotated[Any, Depends(user)]) -> None:
        _require_access(user)

    def login_path(back: str) -> str:
        return f"{API_ROOT_PATH}api/v2/auth/login?{urlencode({'next': back})}"

    site = Site(
        sources=Sources(
            quality_dir=settings().quality_dir,
            domains=project_domains,
            marts=lambda: runtime.marts_reader(_connection),
            lake=lambda: runtime.lake_reader(_connection),
        ),
        dbt_docs=dbt_project.PROJECT_DIR / "target" / "static_index.html",
        run_paths=_run_paths,
        login_path=login_path,
    )
    return create_app(site, may_read)


def _connection(conn_id: str) -> Any:
    from airflow.exceptions import AirflowNotFoundException

    from include.errors import SetupError
    from include.orchestration.connections import airflow_connection

    try:
        return airflow_connection(conn_id)
    except AirflowNotFoundException:
        raise SetupError(f"Airflow has no connection {conn_id}; add it under Admin, Connections.") from None


def _require_access(user: Any) -> None:
    """The rights that Airflow's home page and its list of DAGs ask for; a role without any has neither."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView

    from include.web.app import NotAllowed

    manager = get_auth_manager()
    allowed = manager.is_authorized_view(access_view=AccessView.WEBSITE, user=user)
    if not allowed or not manager.is_authorized_dag(method="GET", user=user):
        raise NotAllowed("Your role may not read Airflow's DAGs, so it may not read these pages; ask an administrator.")


def _run_paths(wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Pages of DAG runs by (domain, run id). The ledger names no DAG, but a DAG's id starts with its domain."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    wanted = set(wanted)
    query = select(DagRun.dag_id, DagRun.run_id).where(DagRun.run_id.in_({run_id for _, run_id in wanted}))
    with create_session() as session:
        known = session.execute(query).all()
    return {
        (domain, run_id): f"/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
        for dag_id, run_id in known
        for domain, wanted_id in wanted
        if run_id == wanted_id and dag_id.startswith(f"{domain}_")
    }
