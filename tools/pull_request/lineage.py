"""Which columns a change reaches, read from the SQL that dbt compiled on each side.

A column is reached if what it is computed from is, or if the choice of its model's rows (joins, filters, groups)
changed or depends on a column that is reached. SQL that sqlglot cannot read counts as reached in all its columns.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from tools.pull_request.models import ModelChange, Project

Schema = Mapping[str, Mapping[str, Mapping[str, str]]]
Source = tuple[str, str]
# Of a select: everything that is neither a column that it gives nor a table expression that stands for itself.
NOT_ROWS = ("expressions", "with_", "with", "kind", "hint", "operation_modifiers")


@dataclass
class Trace:
    """SQL that something comes from, and the columns of tables that it reads."""

    sql: list[str] = field(default_factory=list)
    reads: set[Source] = field(default_factory=set)

    def add(self, other: "Trace") -> None:
        self.sql += other.sql
        self.reads |= other.reads

    @property
    def fingerprint(self) -> frozenset[str]:
        return frozenset(self.sql)


class Query:
    """A model's compiled SQL: where each of its columns, and its choice of rows, comes from.

    Raises:
        SqlglotError: it cannot be read.
    """

    def __init__(self, compiled: str, schema: Schema) -> None:
        statement = parse_one(compiled, dialect="duckdb")
        qualified = qualify(
            statement, schema={"dl": schema}, dialect="duckdb", validate_qualify_columns=False, quote_identifiers=False
        )
        root = build_scope(qualified)
        if root is None:
            raise SqlglotError("it is no query")
        self._root: Scope = root
        self._traced: dict[tuple[int, str], Trace] = {}

    @cached_property
    def columns(self) -> dict[str, Trace]:
        return {name: self._column(self._root, name) for name in self._root.expression.named_selects}

    @cached_property
    def rows(self) -> Trace:
        trace, seen = Trace(), set()
        waiting = [self._root]
        while waiting:
            scope = waiting.pop()
            if id(scope) in seen:
                continue
            seen.add(id(scope))
            waiting += [source for source in scope.sources.values() if isinstance(source, Scope)]
            waiting += [*scope.set_operation_scopes, *scope.subquery_scopes]
            if isinstance(scope.expression, exp.SetOperation):
                trace.sql.append(f"{type(scope.expression).__name__} distinct={scope.expression.args.get('distinct')}")
                continue
            for name, clause in scope.expression.args.items():
                for part in clause if isinstance(clause, list) else [clause]:
                    if name not in NOT_ROWS and isinstance(part, exp.Expression):
                        trace.add(self._expression(scope, part))
        return trace

    def _column(self, scope: Scope, name: str) -> Trace:
        key = id(scope), name.lower()
        if key not in self._traced:
            trace = self._traced[key] = Trace()
            if isinstance(scope.expression, exp.SetOperation):
                position = [each.lower() for each in scope.expression.named_selects].index(name.lower())
                for branch in scope.set_operation_scopes:
                    trace.add(self._column(branch, branch.expression.named_selects[position]))
            else:
                found = [each for each in scope.expression.selects if each.alias_or_name.lower() == name.lower()]
                if not found:  # a table function, or values: what it is, is all there is to say
                    trace.sql.append(scope.expression.sql("duckdb"))
                for each in found:
                    trace.add(self._expression(scope, each))
        return self._traced[key]

    def _expression(self, scope: Scope, expression: exp.Expression) -> Trace:
        trace = Trace([expression.sql("duckdb", comments=False)])
        for column in expression.find_all(exp.Column):
            source = self._source(scope, column.table)
            if isinstance(source, Scope):
                trace.add(self._column(source, column.name))
            elif isinstance(source, exp.Table):
                trace.reads.add((f"{source.db}.{source.name}", column.name.lower()))
        return trace

    def _source(self, scope: Scope, alias: str) -> Scope | exp.Expression | None:
        """What a table's alias stands for here, outside a subquery, or inside one."""
        at: Scope | None = scope
        while at is not None:
            if alias in at.sources:
                return at.sources[alias]
            at = at.parent
        return next((inner.sources[alias] for inner in scope.traverse() if alias in inner.sources), None)


@dataclass(frozen=True)
class Reach:
    """What a change reaches.

    Args:
        columns: by table, the columns reached, in the table's order; tables whose rows it cannot touch are not here.
        by_rows: tables that are reached whole, since the choice of their rows is.
        unread: tables whose SQL could not be read, and why.
    """

    columns: dict[str, tuple[str, ...]]
    by_rows: frozenset[str]
    unread: dict[str, str]


@dataclass(frozen=True)
class Compiled:
    """One side's SQL by model name, and the lake's columns."""

    sql: Mapping[str, str]
    schema: Schema

    def query(self, table: str) -> Query:
        return Query(self.sql[table.partition(".")[2]], self.schema)

    def has(self, table: str) -> bool:
        return table.partition(".")[2] in self.sql


def reach(project: Project, changes: Iterable[ModelChange], before: Compiled, after: Compiled) -> Reach:
    """The columns that differing models, and whatever reads them, give otherwise than before, or may."""
    changed = {change.table: change for change in changes if change.rows_may_differ}
    reached: dict[str, set[str]] = {}
    by_rows, unread = set(), {}
    for table in project.in_order():
        upstream = {(parent, column) for parent in project.parents(table) for column in reached.get(parent, ())}
        if table not in changed and not upstream:
            continue
        try:
            found, whole = _of_table(table, changed, upstream, before, after)
            whole = whole or not by_rows.isdisjoint(project.parents(table))
        except (SqlglotError, ValueError, KeyError) as error:
            unread[table] = str(error).strip().splitlines()[0]
            found, whole = set(), True
        if whole:
            by_rows.add(table)
            found = set(_columns(table, project, after))
        if found:
            reached[table] = found
    ordered = {
        table: tuple(column for column in _columns(table, project, after) if column in found)
        for table, found in reached.items()
    }
    return Reach(ordered, frozenset(by_rows), unread)


def _columns(table: str, project: Project, after: Compiled) -> list[str]:
    """A table's columns as the lake has them, or as its YAML says where it was not built."""
    schema, _, name = table.partition(".")
    return list(after.schema.get(schema, {}).get(name) or project.nodes[table]["columns"])


def _of_table(
    table: str, changed: Mapping[str, ModelChange], upstream: set[Source], before: Compiled, after: Compiled
) -> tuple[set[str], bool]:
    """Columns of one table that are reached, and whether all are, by the choice of its rows."""
    change = changed.get(table)
    if change is not None and (change.kind != "changed" or not after.has(table) or not before.has(table)):
        return set(), True
    new = after.query(table)
    if change is not None:
        old = before.query(table)
        if old.rows.fingerprint != new.rows.fingerprint:
            return set(), True
        found = {
            name
            for name, trace in new.columns.items()
            if name not in old.columns or old.columns[name].fingerprint != trace.fingerprint
        }
    else:
        found = set()
    if new.rows.reads & upstream:
        return set(), True
    return found | {name for name, trace in new.columns.items() if trace.reads & upstream}, False
