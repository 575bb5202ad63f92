"""The only reader of the environment. `lake settings` prints this table; `.env.example` is tested against it."""

import os
import re
import shlex
from functools import lru_cache
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from include.connections import Connection
from include.errors import SetupError

ROOT = Path(__file__).resolve().parent.parent
# A line of an environment file, as people and as `make setup` write it.
_ASSIGNMENT = re.compile(r"\s*(?:\[ \"\$\{\w+\+set\}\" \] \|\| )?(?:export\s+)?(\w+)\s*=(.*?)\s*$")


class Settings(BaseSettings):
    """Every setting, from `LAKE_*` variables. Servers and secrets are connections, not settings."""

    model_config = SettingsConfigDict(env_prefix="LAKE_", frozen=True)

    home: Path = Field(default=ROOT / ".lakehouse", description="Folder of everything that runs and is written.")
    extension_dir: Path | None = Field(default=None, description="DuckDB extensions; by default `extensions` in home.")
    metadata_schema: str = Field(default="ducklake", description="Schema of the DuckLake catalog in its database.")
    memory_limit: str = Field(default="4GB", description="Memory one DuckDB process may use before it spills to disk.")
    threads: int | None = Field(default=None, ge=1, description="Threads of one DuckDB process; by default one a core.")
    port: int = Field(default=8080, ge=1, le=65535, description="Port of Airflow's web server on a laptop.")
    demo_port: int = Field(default=8090, ge=1, le=65535, description="Port of the demo Nightscout sites.")
    base_url: str | None = Field(default=None, description="Address of Airflow in links; by default the local port.")
    alert_connection: str | None = Field(
        default=None, description="Connection whose password is a webhook that is told of failures; none by default."
    )
    nightscout_sites: Path | None = Field(
        default=None, description="Sites file; by default `sites.yaml` in home, which `make demo` writes."
    )
    nightscout_lookback_days: int = Field(
        default=2, ge=0, le=90, description="Days before the interval that are read again, for late uploads."
    )
    saas_databases: Path | None = Field(
        default=None, description="Databases file; by default `databases.yaml` in home, which `make demo` writes."
    )
    saas_overlap_days: int = Field(
        default=1, ge=0, le=90, description="Days before the interval that are asked again, for rows committed late."
    )
    saas_demo_scale: float = Field(
        default=0.1, ge=0.001, le=1000, description="Size of the demo's database; 1 is 20,000 users over three years."
    )
    snapshot_days: int = Field(
        default=30, ge=1, description="Days that snapshots of the lake are kept; releases keep theirs longer."
    )
    release_days: int = Field(
        default=365, ge=1, description="Days that releases stay reproducible; what readers are on always is."
    )
    backup_keep: int = Field(
        default=14, ge=1, description="Days whose last backup is kept; of the newest day every one is."
    )

    code_version: str | None = Field(
        default=None, description="Version that releases record, where there is no git checkout to ask (an image)."
    )

    @field_validator("home", "extension_dir", "nightscout_sites", "saas_databases")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        # Against the checkout: Airflow's processes have another working directory than the command that started them.
        return (ROOT / value.expanduser()).resolve() if value else value

    @property
    def extensions(self) -> Path:
        return self.extension_dir or self.home / "extensions"

    @property
    def sites_file(self) -> Path:
        return self.nightscout_sites or self.home / "sites.yaml"

    @property
    def databases_file(self) -> Path:
        return self.saas_databases or self.home / "databases.yaml"

    @property
    def quality_dir(self) -> Path:
        """Validation results and Data Docs, kept per run."""
        return self.home / "quality"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings; read once."""
    return Settings()


def listing_file(domain: str, what: str) -> Path:
    """The file that lists what a domain reads, such as its `databases`.

    `LAKE_<DOMAIN>_<WHAT>` names it; by default it is `include/sources/<domain>/<what>.yaml`, which holds no secret.
    """
    named = os.environ.get(f"LAKE_{domain.upper()}_{what.upper()}")
    return (ROOT / Path(named).expanduser()).resolve() if named else ROOT / "include/sources" / domain / f"{what}.yaml"


def connection(conn_id: str) -> Connection:
    """A connection from `AIRFLOW_CONN_<ID>`, for use outside Airflow.

    Raises:
        SetupError: the variable is not set.
    """
    name = f"AIRFLOW_CONN_{conn_id.upper().replace('-', '_')}"
    text = os.environ.get(name)
    if not text:
        raise SetupError(f"Connection {conn_id} is missing: set {name} (a URI or JSON), or run `make setup`.")
    return Connection.parse(conn_id, text)


def load_local_environment(home: Path | None = None) -> None:
    """Take connections and settings from `.env`, then from the laptop's stack; what is set already wins."""
    home = home or ROOT / Path(os.environ.get("LAKE_HOME", ".lakehouse")).expanduser()
    for file in (ROOT / ".env", home / "env", home / "demo.env"):
        if not file.is_file():
            continue
        for line in file.read_text().splitlines():
            if assigned := _ASSIGNMENT.match(line):
                name, value = assigned.groups()
                text = "".join(shlex.split(value)) if value[:1] in ("'", '"') else value
                os.environ.setdefault(name, text)
