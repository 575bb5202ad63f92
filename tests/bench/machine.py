"""The machine and the versions that figures belong to."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from include.settings import ROOT

PACKAGES = ("apache-airflow", "astronomer-cosmos", "dlt", "dbt-core", "duckdb", "great-expectations", "pyarrow")


def describe() -> dict[str, str]:
    """What the table's heading says."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 1024**3:.0f} GB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def code() -> str:
    """The commit, with a mark of what was changed since."""
    head = _git("rev-parse", "--short=12", "HEAD").strip() or "unknown"
    paths = ("--", "include", "dbt", "dags", "tests/bench", "requirements.lock")
    changed = _git("diff", "HEAD", *paths) + _git("ls-files", "--others", "--exclude-standard", *paths)
    return f"{head}+{hashlib.sha256(changed.encode()).hexdigest()[:6]}" if changed else head


def load() -> float:
    """Processes that want a core, averaged over a minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout
