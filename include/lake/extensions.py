"""DuckDB extensions from wheels, so that nothing is downloaded when DuckDB first needs one."""

import importlib.util
from pathlib import Path

import duckdb

from include.errors import SetupError

EXTENSIONS = ("ducklake", "postgres_scanner", "httpfs")


def link_extensions(directory: Path) -> None:
    """Link the installed extension wheels into DuckDB's folder layout below `directory`; repeatable."""
    platform = duckdb.execute("pragma platform").fetchone()
    assert platform is not None
    target = directory / f"v{duckdb.__version__}" / platform[0]
    target.mkdir(parents=True, exist_ok=True)
    for name in EXTENSIONS:
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        if spec is None or not spec.submodule_search_locations:
            raise SetupError(f"The wheel of DuckDB's {name} extension is not installed; run `make setup`.")
        folder = Path(spec.submodule_search_locations[0])
        source = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if not source.is_file():
            raise SetupError(f"{name}'s wheel has no build for DuckDB {duckdb.__version__}; the versions must agree.")
        link = target / source.name
        if not link.is_symlink() or link.resolve() != source:
            link.unlink(missing_ok=True)
            link.symlink_to(source)
