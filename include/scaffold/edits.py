"""Small insertions into files that exist, found by what the code means rather than by how it is laid out."""

import ast
import textwrap

import yaml

from include.scaffold.names import ScaffoldError


def insert(source: str, name: str, text: str, where: str) -> str:
    """Add elements at the end of the literal that a module assigns to `name`: a tuple, list, set or dict, or the tuple
    that a comprehension goes through.

    Args:
        text: the elements, each with its comma; they are indented as the others.
        where: the file, for errors.

    Raises:
        ScaffoldError: the module has no such literal, closed on a line of its own; the message holds what to add.
    """
    literal = _literal(ast.parse(source), name)
    lines = source.splitlines(keepends=True)
    if literal is not None and literal.end_lineno != literal.lineno:
        closing = lines[literal.end_lineno - 1]
        before = closing[: literal.end_col_offset - 1]
        if not before.strip():
            made = textwrap.indent(textwrap.dedent(text).strip("\n"), before + "    ") + "\n"
            changed = "".join([*lines[: literal.end_lineno - 1], made, *lines[literal.end_lineno - 1 :]])
            if _count(changed, name) > _count(source, name):
                return changed
    raise ScaffoldError(
        f"{where} assigns no list of several lines to {name}, each with a comma, which `lake new` could add to. "
        f"Nothing was written. Shape it as `lake new domain` does, or add by hand:\n{textwrap.dedent(text).strip()}"
    )


def append_source(text: str, table: str, where: str) -> str:
    """Add a table at the end of a dbt sources file.

    Args:
        table: the table as YAML, an item of `tables`, not indented.

    Raises:
        ScaffoldError: the tables of a source are not the last that the file says.
    """
    changed = f"{text.rstrip()}\n{textwrap.indent(table.strip(), ' ' * 6)}\n"
    try:
        before, after = _tables(text), _tables(changed)
    except (yaml.YAMLError, KeyError, TypeError, IndexError):
        before, after = [], []
    if not after or after[:-1] != before or after[-1] != yaml.safe_load(table)[0]:
        raise ScaffoldError(
            f"{where} does not end with the tables of one source, so that none could be added. Nothing was written. "
            f"Add by hand:\n{table.strip()}"
        )
    return changed


def _tables(text: str) -> list:
    (source,) = yaml.safe_load(text)["sources"]
    return source["tables"]


def _literal(tree: ast.Module, name: str) -> ast.expr | None:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = getattr(node, "value", None)
            if isinstance(value, ast.DictComp | ast.ListComp | ast.SetComp):
                value = value.generators[0].iter
            if isinstance(value, ast.Tuple | ast.List | ast.Set | ast.Dict):
                return value
    return None


def _count(source: str, name: str) -> int:
    """How many elements the literal has; none if it cannot be read."""
    try:
        literal = _literal(ast.parse(source), name)
    except SyntaxError:
        return 0
    return len(literal.keys if isinstance(literal, ast.Dict) else literal.elts) if literal is not None else 0  # type: ignore[attr-defined]
