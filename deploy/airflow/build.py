"""Run once while the image is built: link DuckDB's extensions and parse the dbt project. Reaches no server."""

from include import settings
from include.lake.extensions import link_extensions
from include.local.stack import build_manifest


def main() -> None:
    link_extensions(settings.settings().extensions)
    build_manifest(force=True)


if __name__ == "__main__":
    main()
