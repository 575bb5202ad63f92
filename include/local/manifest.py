"""Parse the dbt project into its manifest and static documentation; needs no lake and no database.

Runs as a process of its own (`python -m include.local.manifest`), as dbt keeps global state and logs to the terminal.
"""

import os
import sys
import tempfile
from pathlib import Path

from include.dbt_project import FINGERPRINT, MANIFEST, PARSED, PROJECT_DIR, fingerprint
from include.lake.dbt_environment import parse_environment

# The manifest last: whoever finds it new finds the others new as well.
FILES = (PARSED.name, FINGERPRINT.name, "static_index.html", MANIFEST.name)


def main() -> int:
    """Exit status 0 if manifest and documentation were put into `dbt/target`, each whole at any moment."""
    os.environ.update(parse_environment())
    from dbt.cli.main import dbtRunner

    target = MANIFEST.parent
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".new-") as scratch:
        places = ["--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR)]
        places += ["--target-path", scratch, "--log-path", scratch, "--quiet"]
        (Path(scratch) / FINGERPRINT.name).write_text(fingerprint())
        parsed = dbtRunner().invoke(["parse", *places])
        if not parsed.success:
            return 1
        docs = ["docs", "generate", "--static", "--empty-catalog", "--no-compile"]
        if not dbtRunner(manifest=parsed.result).invoke([*docs, *places]).success:
            return 1
        for name in FILES:
            (Path(scratch) / name).replace(target / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
