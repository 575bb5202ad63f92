"""Which files a change touches, and what of the pipeline they select."""

import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from include.errors import SetupError

# What the pipeline is made of. Everything else (documents, tests, deployment, pages) runs no different row.
PIPELINE = ("dags", "dbt", "include")
PACKAGES = ("requirements.lock", "pyproject.toml")
KINDS = {"A": "added", "D": "gone"}


@dataclass(frozen=True)
class Change:
    path: str
    kind: str  # added, changed or gone

    @property
    def folder(self) -> str:
        return self.path.partition("/")[0] if "/" in self.path else "."

    @property
    def is_pipeline(self) -> bool:
        if self.path.endswith(".md"):
            return False
        return self.folder in PIPELINE or self.path in PACKAGES


@dataclass(frozen=True)
class Selection:
    """What is to be run and looked at.

    Args:
        domains: each domain to run, with the files that select it.
        whole: domains in which everything counts as affected, since more than their dbt models changed.
        dags: DAGs of no domain, whose files changed; they are parsed and compared, not run.
        lost: pipeline files that select nothing.
    """

    domains: dict[str, list[str]]
    whole: frozenset[str]
    dags: dict[str, list[str]]
    lost: list[str]

    @property
    def is_empty(self) -> bool:
        return not self.domains and not self.dags


def merge_base(root: Path, base: str) -> str:
    """The commit at which the checkout left `base`.

    Raises:
        SetupError: there is no such commit here.
    """
    done = _git(root, "merge-base", base, "HEAD", check=False)
    if done.returncode:
        raise SetupError(
            f"git finds no commit that HEAD and {base} share: {done.stderr.strip() or 'their histories do not meet'}. "
            "Fetch it (a shallow clone: `git fetch --unshallow`), or name another: make pr BASE=<branch or commit>."
        )
    return done.stdout.strip()


def changed_files(root: Path, commit: str) -> list[Change]:
    """What differs between a commit and the files as they are, committed or not; a rename is one gone, one added."""
    listed = _git(root, "diff", "--name-status", "--no-renames", "-z", commit).stdout.split("\0")
    pairs = zip(listed[0::2], listed[1::2], strict=False)
    changes = [Change(path, KINDS.get(letter[:1], "changed")) for letter, path in pairs]
    new = _git(root, "ls-files", "--others", "--exclude-standard", "-z").stdout.split("\0")
    return sorted([*changes, *(Change(path, "added") for path in new if path)], key=lambda change: change.path)


def select(
    changes: Iterable[Change],
    domains: Collection[str],
    dags_of: Mapping[str, Collection[tuple[str, str | None]]],
    model_domains: Collection[str],
) -> Selection:
    """What the changes select. Both sides' domains, DAGs and models count: what is gone is a change as well.

    Args:
        domains: every domain that has a daily pipeline.
        dags_of: by DAG file, its DAGs, each with the domain that it runs, if any.
        model_domains: domains of models that differ between the two sides, for macros, which belong to no one domain.
    """
    chosen: dict[str, list[str]] = {}
    whole: set[str] = set()
    dags: dict[str, list[str]] = {}
    lost: list[str] = []

    def choose(names: Iterable[str], path: str, *, all_of_it: bool) -> None:
        for name in sorted(names):
            chosen.setdefault(name, []).append(path)
            if all_of_it:
                whole.add(name)

    for change in changes:
        path = change.path
        if not change.is_pipeline:
            continue
        if change.folder == "dags":
            found = dags_of.get(path, ())
            choose({domain for _, domain in found if domain}, path, all_of_it=False)
            for dag_id, domain in found:
                if not domain:
                    dags.setdefault(dag_id, []).append(path)
            if not found:
                lost.append(path)
        elif path.startswith("dbt/models/"):
            own = _domains_in(path, domains)
            choose(own, path, all_of_it=False)
            if not own:
                lost.append(path)
        elif path.startswith("dbt/macros/"):
            # The models that it changes say whose it is; one that changes none is everybody's.
            choose(model_domains or domains, path, all_of_it=not model_domains)
        else:
            choose(_domains_in(path, domains) or domains, path, all_of_it=True)
    if not domains:
        lost += [path for paths in chosen.values() for path in paths]
    return Selection(chosen, frozenset(whole), dags, lost)


def _domains_in(path: str, domains: Collection[str]) -> set[str]:
    """Domains whose name is a folder of the path, or begins its file's name."""
    pure = PurePosixPath(path)
    return {
        domain
        for domain in domains
        if domain in pure.parts[:-1] or pure.stem == domain or pure.stem.startswith(f"{domain}_")
    }


def _git(root: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    if check and done.returncode:
        raise SetupError(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done
