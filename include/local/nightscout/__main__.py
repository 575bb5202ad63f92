"""Serve demo Nightscout sites: `python -m include.local.nightscout serve --help`."""

import gc
import os
import secrets
import shlex
import signal
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from include.errors import LakehouseError, SetupError
from include.local.nightscout.csv import csv_sites
from include.local.nightscout.demo import add_days, demo_sites
from include.local.nightscout.server import LOOPBACK, SiteServer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def nightscout() -> None:
    """Nightscout sites on this machine, for demonstrations and tests."""


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port of all sites; 0 takes a free one.", min=0, max=65535)] = 8090,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = LOOPBACK,
    csv: Annotated[
        Path | None, typer.Option(help="Serve this CSV (id, time, gl), one site a person, instead of the demo sites.")
    ] = None,
    weeks: Annotated[int, typer.Option(help="Weeks of demo data.", min=1, max=520)] = 4,
    count: Annotated[int, typer.Option("--sites", help="Number of demo sites.", min=1, max=200)] = 4,
    until: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="End of the demo data, exclusive, in UTC. By default today, and each new day adds the one before.",
        ),
    ] = None,
    write_sites: Annotated[Path | None, typer.Option(help="Write a sites file for what is served.")] = None,
    write_env: Annotated[
        Path | None, typer.Option(help="Write the sites' connections, secrets included, as environment variables.")
    ] = None,
    admin_key: Annotated[
        str | None,
        typer.Option(help="Key for POST and DELETE /_admin/<site>/faults; without it there is no such path."),
    ] = None,
    secret_seed: Annotated[
        str | None, typer.Option(help="Text that the sites' secrets come from; by default random at each start.")
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help="File that holds the secret seed; made with a random one where it is missing.")
    ] = None,
) -> None:
    """Serve sites until interrupted."""
    try:
        _serve(port, host, csv, weeks, count, until, write_sites, write_env, admin_key, _seed(secret_seed, secret_file))
    except LakehouseError as problem:
        typer.echo(str(problem), err=True)
        raise typer.Exit(1) from None


def _serve(
    port: int,
    host: str,
    csv: Path | None,
    weeks: int,
    count: int,
    until: datetime | None,
    write_sites: Path | None,
    write_env: Path | None,
    admin_key: str | None,
    seed: str,
) -> None:
    # Documents live as long as the process: looking through millions of them for garbage doubles the time to make them.
    gc.set_threshold(200_000, 50, 100)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    end = until.date() if until else _today()
    if csv:
        sites = csv_sites(csv, secret_seed=seed)
    else:
        sites = demo_sites(end - timedelta(weeks=weeks), end, count=count, secret_seed=seed)
    server = SiteServer(sites, port, host=host, admin_key=admin_key)
    try:
        if write_sites:
            _write(write_sites, server.sites_yaml(), 0o644)
        if write_env:
            lines = [f"{name}={shlex.quote(value)}" for name, value in server.connections().items()]
            _write(write_env, "\n".join(lines) + "\n", 0o600)
        server.start()
        for site in sites:
            versions = "v1 and v3" if site.v3 else "v1"
            typer.echo(f"{server.url(site)}  {site.time_zone}, {site.units}, API {versions}")
        typer.echo(f"{len(sites)} sites at {server.base_url}; interrupt to stop.")
        while not stopped.wait(60):
            if csv is None and until is None and _today() > end:
                for site in sites:
                    add_days(site, end, _today())
                end = _today()
    finally:
        server.stop()


def _today() -> date:
    return datetime.now(UTC).date()


def _seed(given: str | None, file: Path | None) -> str:
    if given and file:
        raise SetupError("Both --secret-seed and --secret-file are given; give one.")
    if file is None:
        return given or secrets.token_hex(16)
    if not file.is_file():
        _write(file, secrets.token_hex(16) + "\n", 0o600)
    seed = file.read_text().strip()
    if len(seed) < 12:
        raise SetupError(f"{file} holds no secret seed of 12 characters or more; delete it and it is made again.")
    return seed


def _write(file: Path, text: str, mode: int) -> None:
    """Replace a file in one step, never readable by more than `mode` allows.

    Raises:
        SetupError: the folder cannot be written.
    """
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as target:
            target.write(text)
        part.replace(file)
    except OSError as problem:
        raise SetupError(f"{file} cannot be written ({problem.strerror}); choose another place.") from None


if __name__ == "__main__":
    app(prog_name="python -m include.local.nightscout")
