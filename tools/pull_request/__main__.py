"""Check a change against its base: `python -m tools.pull_request --help`, or `make pr`."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from include.errors import LakehouseError
from include.settings import ROOT
from tools.pull_request.check import check
from tools.pull_request.report import markdown, summary

FOLDER = ROOT / ".lakehouse" / "pull-request"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    base: Annotated[str, typer.Option(help="Branch or commit that the change goes to.")] = "origin/main",
    folder: Annotated[Path, typer.Option(help="Where the report and Data Docs are written.")] = FOLDER,
    step_summary: Annotated[
        Path | None, typer.Option(envvar="GITHUB_STEP_SUMMARY", help="A file that the report is added to.")
    ] = None,
) -> None:
    """Run what a change touches on demo sources, twice, and say what differs from its base; exit status 0 if green."""
    console = Console(width=None if Console().is_terminal else 120)
    began = time.monotonic()
    try:
        with console.status("Files") as status:
            outcome = check(ROOT, base, folder / "quality", status.update)
    except LakehouseError as error:
        Console(stderr=True).print(Text.assemble(("Error: ", "bold red"), str(error)))
        raise typer.Exit(1) from None
    text = markdown(outcome, time.monotonic() - began)
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.md"
    report.write_text(text)
    if step_summary:
        with step_summary.open("a") as file:
            file.write(text)
    console.print(summary(outcome, time.monotonic() - began))
    console.print(Text(f"Report: {report}"), soft_wrap=True)
    raise typer.Exit(0 if outcome.passed else 1)


if __name__ == "__main__":
    app(prog_name="make pr")
