"""Names that are safe in paths, URLs and tables."""

import hashlib
import re


def run_slug(dag_run_id: str) -> str:
    """A folder name for a DAG run: readable, path-safe, and different for different run ids."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", dag_run_id).strip("._")[:80]
    if readable == dag_run_id:
        return readable
    return f"{readable}-{hashlib.sha256(dag_run_id.encode()).hexdigest()[:8]}"


def snake_case(field: str) -> str:
    """The column name of a field of JSON, as dlt's naming convention has it."""
    words = re.sub(r"[^A-Za-z0-9_]", "_", field.strip().translate(str.maketrans("+-*@|", "x_xal")))
    words = re.sub(r"([^_])([A-Z][a-z]+)", r"\1_\2", words)
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words).lower()
    words = f"_{words}" if words[:1].isdigit() else words
    bare = words.rstrip("_")
    return re.sub(r"_{2,}", "_", bare + "x" * (len(words) - len(bare))) or "x"
