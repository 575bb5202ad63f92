"""Templates into files: a template's path is the path of what it writes, with words for names."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"
SUFFIX = ".j2"


@lru_cache(maxsize=1)
def environment() -> Any:
    """Jinja with angle brackets: braces are what the templates of dbt, and Python, are full of."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - code, not HTML
    )
    made.filters |= {
        "json": lambda value: json.dumps(value, ensure_ascii=False),
        "sentence": lambda text: text[:1].upper() + text[1:],
        "tuple": _tuple,
        "imports": _imports,
        "quoted": lambda name: f'"{name}"',
    }
    return made


def part(name: str, kind: str, **values: Any) -> str:
    """A piece of a file, `parts/<name>` of the kind's templates or of those of all kinds, without a last newline."""
    template = environment().select_template([f"kinds/{kind}/parts/{name}{SUFFIX}", f"parts/{name}{SUFFIX}"])
    return template.render(**values).rstrip("\n")


def files(folder: str, words: Mapping[str, str], **values: Any) -> Iterator[tuple[str, str]]:
    """Path (in the repository) and text of each template below a folder of templates.

    Args:
        words: by word in a template's path, what it stands for.
    """
    root = TEMPLATES / folder
    for file in sorted(root.rglob(f"*{SUFFIX}")):
        path = file.relative_to(root).as_posix().removesuffix(SUFFIX)
        for word, name in words.items():
            path = path.replace(word, name)
        yield path, environment().get_template(file.relative_to(TEMPLATES).as_posix()).render(**values)


def _imports(block: str) -> str:
    """`from` imports in the order of their modules, which depends on what a domain is called."""
    return "".join(sorted(block.splitlines(keepends=True), key=lambda line: line.split()[1]))


def _tuple(values: tuple[str, ...]) -> str:
    """A tuple of texts as Python spells it, and ruff."""
    return f"({', '.join(json.dumps(value) for value in values)}{',' if len(values) == 1 else ''})"
