"""Names that are safe in paths and URLs."""

import hashlib
import re


def run_slug(dag_run_id: str) -> str:
    """A folder name for a DAG run: readable, path-safe, and different for different run ids."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", dag_run_id).strip("._")[:80]
    if readable == dag_run_id:
        return readable
    return f"{readable}-{hashlib.sha256(dag_run_id.encode()).hexdigest()[:8]}"
