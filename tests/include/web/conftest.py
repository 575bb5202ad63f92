import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from psycopg import sql

from include.connections import Postgres, Storage
from include.lake.attach import Lake
from include.lake.passfile import use_passwords
from include.local.postgres import LocalPostgres
from include.web.app import Site, create_app
from include.web.status import Sources
from tests.include.web import sample

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
JSON = {"accept": "application/json"}
PREFIX = "/lakehouse"


class Pages:
    """The pages, mounted as Airflow mounts them, over a lake and a marts database of their own."""

    def __init__(self, lake: Lake, marts: Postgres, folder: Path) -> None:
        self.lake, self.marts = lake, marts
        self.quality_dir, self.dbt_docs = folder / "quality", folder / "static_index.html"
        self.domains = ["nightscout"]
        self.run_paths: dict[tuple[str, str], str] = {}

    def client(self, may_read: Any = lambda: None) -> TestClient:
        sources = Sources(self.quality_dir, lambda: self.domains, lambda: self.marts, lambda: self.lake)
        site = Site(sources, self.dbt_docs, lambda wanted: self.run_paths, lambda back: f"/login?next={back}")
        outer = FastAPI()
        outer.mount(PREFIX, create_app(site, may_read))
        return TestClient(outer, base_url="http://testserver", follow_redirects=False)

    def html(self, path: str, code: int = 200) -> str:
        answer = self.client().get(f"{PREFIX}{path}", headers=HTML)
        assert answer.status_code == code, answer.text
        return answer.text

    def json(self, path: str, code: int = 200) -> Any:
        answer = self.client().get(f"{PREFIX}{path}", headers=JSON)
        assert answer.status_code == code, answer.text
        return answer.json()


@pytest.fixture
def site(tmp_path: Path) -> Pages:
    """Pages over a folder of their own; neither the lake nor the marts database answers."""
    nowhere = Postgres("/nowhere", 5432, "marts", "marts_publisher", "very-secret-word")
    lake = Lake(nowhere, Storage(str(tmp_path / "lake")), tmp_path / "extensions", tmp_path / "duckdb")
    return Pages(lake, nowhere, tmp_path)


@pytest.fixture(scope="session")
def original(server: LocalPostgres, extensions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Two releases of two days, with their gates; readers are on the second. Copied by the tests, never changed."""
    folder = tmp_path_factory.mktemp("released")
    with sample.two_releases(server, extensions, folder) as (lake, marts):
        yield Pages(lake, marts, folder)


@pytest.fixture
def released(original: Pages, server: LocalPostgres, tmp_path: Path) -> Iterator[Pages]:
    """The releases of `original`, in databases and folders of the test's own; the lake's files are shared."""
    shutil.copytree(original.quality_dir, tmp_path / "quality")
    with _copy(server, original.lake.catalog) as catalog, _copy(server, original.marts) as marts:
        yield Pages(replace(original.lake, catalog=catalog), marts, tmp_path)


@contextmanager
def _copy(server: LocalPostgres, template: Postgres) -> Iterator[Postgres]:
    name = f"{template.database}_{uuid.uuid4().hex[:6]}"
    superuser = server.as_role("postgres", "postgres").conninfo()
    with psycopg.connect(superuser, autocommit=True) as connection:
        end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
        connection.execute(end, [template.database])
        create = sql.SQL("create database {} template {} owner {}")
        connection.execute(create.format(*map(sql.Identifier, (name, template.database, template.user))))
    copy = replace(template, database=name)
    use_passwords(copy)
    try:
        yield copy
    finally:
        with psycopg.connect(superuser, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
