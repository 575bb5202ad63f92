"""Which code a release was made by."""

import hashlib
import subprocess
from pathlib import Path

from include import settings as environment
from include.settings import ROOT

FOLDERS = ("dags", "dbt", "include", "plugins")
# What git ignores too: written by dbt and Python when they run.
LEFT_OUT = {"target", "logs", "dbt_packages", "__pycache__"}


def code_version(root: Path = ROOT, override: str | None = None) -> str:
    """The version that LAKE_CODE_VERSION names, else the checkout's commit (`-dirty` if files differ from it).

    Without git (an unpacked archive) it is `files-` and a hash of the files that make up the pipeline, which tells
    two versions apart as well.
    """
    named = override or environment.settings().code_version
    if named:
        return named
    # The repository must be this one, not one that it happens to lie in.
    if (root / ".git").exists():
        commit = _git(root, "rev-parse", "HEAD")
        if commit:
            return f"{commit}-dirty" if _git(root, "status", "--porcelain") else commit
    return f"files-{_files_hash(root)[:40]}"


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)  # noqa: S607
    except (OSError, subprocess.CalledProcessError):  # no git, or a checkout that belongs to somebody else
        return None
    return done.stdout.strip()


def _files_hash(root: Path) -> str:
    digest = hashlib.sha256()
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and not LEFT_OUT & set(path.parts):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
