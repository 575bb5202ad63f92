"""The deployment's files as values: enough of the rules of Docker Compose and of Dockerfiles to check them."""

import fnmatch
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from include.settings import ROOT

COMPOSE = ROOT / "docker-compose.yaml"
DOCKERFILE = ROOT / "Dockerfile"
ENV_EXAMPLE = ROOT / ".env.example"
MAKE_ENV = ROOT / "deploy" / "make-env"

VARIABLE = re.compile(
    r"\$(?:\$|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<rule>:?[-?])(?P<word>[^}]*))?\})"
)


class Unset(Exception):
    """A variable that Compose requires has no value."""


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its lines joined."""

    name: str
    value: str
    stage: int

    @property
    def words(self) -> list[str]:
        return shlex.split(self.value)


def interpolate(text: str, values: dict[str, str]) -> str:
    """Replace `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME:?message}` as Compose does."""

    def replace(match: re.Match[str]) -> str:
        name = match["name"] or match["plain"]
        if name is None:
            return "$"
        rule, value = match["rule"] or "", values.get(name)
        present = value is not None and (value != "" or not rule.startswith(":"))
        if present:
            return value or ""
        if rule.endswith("?"):
            raise Unset(f"{name}: {match['word']}")
        return match["word"] or ""

    return VARIABLE.sub(replace, text)


def variables(text: str) -> set[str]:
    """Names of the variables that a Compose file takes from outside."""
    uncommented = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {name for match in VARIABLE.finditer(uncommented) if (name := match["name"] or match["plain"])}


def compose(values: dict[str, str]) -> dict[str, Any]:
    """docker-compose.yaml with anchors resolved and variables replaced.

    Raises:
        Unset: a required variable has no value.
    """

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items()}
        if isinstance(node, list):
            return [walk(value) for value in node]
        return interpolate(node, values) if isinstance(node, str) else node

    project = walk(yaml.safe_load(COMPOSE.read_text()))
    for service in project["services"].values():
        given = service.get("environment", {})
        # A name without a value is passed on where it is set.
        passed = {name: values.get(name) if value is None else str(value) for name, value in given.items()}
        service["environment"] = {name: value for name, value in passed.items() if value is not None}
    return project


def env_values(path: Path) -> dict[str, str]:
    """Assignments of a .env file, comments left out."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def dockerfile() -> list[Instruction]:
    """The instructions of the Dockerfile."""
    joined, instructions, stage = "", [], -1
    for line in DOCKERFILE.read_text().splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        joined += line.strip().removesuffix("\\") + " " if line.endswith("\\") else line.strip()
        if line.endswith("\\"):
            continue
        name, _, value = joined.partition(" ")
        stage += name.upper() == "FROM"
        instructions.append(Instruction(name.upper(), value.strip(), stage))
        joined = ""
    assert not joined, "the Dockerfile ends in a continued line"
    return instructions


def assignments(instruction: Instruction) -> dict[str, str]:
    """What an ENV or ARG instruction sets."""
    return {word.partition("=")[0]: word.partition("=")[2] for word in instruction.words}


def reaches_image(path: str) -> bool:
    """Whether .dockerignore lets a path into the build: its last rule that matches decides."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    parts = path.split("/")
    candidates = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    kept = True
    for rule in rules:
        pattern = rule.removeprefix("!")
        if any(_matches(candidate, pattern) for candidate in candidates):
            kept = rule.startswith("!")
    return kept


def _matches(path: str, pattern: str) -> bool:
    """`*` stays within one folder, `**/` spans them."""
    if pattern.startswith("**/"):
        parts = path.split("/")
        return any(_matches("/".join(parts[start:]), pattern[3:]) for start in range(len(parts)))
    if path.count("/") != pattern.count("/"):
        return False
    return all(fnmatch.fnmatchcase(a, b) for a, b in zip(path.split("/"), pattern.split("/"), strict=True))


def airflow_commands(text: str) -> list[list[str]]:
    """Arguments of each `airflow …` command in a shell script or a document."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(
        r"(?:^|[\s|`])airflow ((?:db|pools|users|jobs|dags|connections|tasks|backfill)\b[^\n`|;]*)", joined
    )
    return [[re.sub(r"\$\{?\w+\}?|<[^>]*>", "x", word) for word in shlex.split(command)] for command in found]
