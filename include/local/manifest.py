"""Parse the dbt project into its manifest and static documentation; needs no lake and no database.

Runs as a process of its own (`python -m include.local.manifest`), as dbt keeps global state and logs to the terminal.
"""

import os
import sys

from include.dbt_project import PROJECT_DIR
from include.lake.dbt_environment import parse_environment


def main() -> int:
    """Exit status 0 if manifest and documentation were written to `dbt/target`."""
    os.environ.update(parse_environment())
    from dbt.cli.main import dbtRunner

    places = ["--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR), "--quiet"]
    parsed = dbtRunner().invoke(["parse", *places])
    if not parsed.success:
        return 1
    docs = ["docs", "generate", "--static", "--empty-catalog", "--no-compile"]
    return 0 if dbtRunner(manifest=parsed.result).invoke([*docs, *places]).success else 1


if __name__ == "__main__":
    sys.exit(main())
