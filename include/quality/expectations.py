"""The three expectations that the suites are written in. Importing this module imports Great Expectations."""

import math
from typing import Any, ClassVar

import sqlalchemy as sa
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.core.metric_function_types import MetricPartialFunctionTypes
from great_expectations.execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.metrics.metric_provider import metric_partial
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

SAMPLE = 10
LONGEST = 200  # of a value that is shown; a profile store has thousands of characters
COUNT = "found__in_all"


class _Aggregate(TableMetricProvider):
    """Any aggregate in SQL. Great Expectations puts those of one table into one statement, hence one scan."""

    metric_name = "lake.aggregate"
    value_keys = ("sql",)

    @metric_partial(
        engine=SqlAlchemyExecutionEngine,
        partial_fn_type=MetricPartialFunctionTypes.AGGREGATE_FN,
        domain_type=MetricDomainTypes.TABLE,
    )
    def _sqlalchemy(
        cls,
        execution_engine: SqlAlchemyExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> Any:
        return sa.literal_column(metric_value_kwargs["sql"]), metric_domain_kwargs, {}


class _LakeExpectation(BatchExpectation):
    """An expectation whose `sql` is an aggregate over the batch's table."""

    sql: str

    metric_dependencies: ClassVar[tuple[str, ...]] = ("lake.aggregate",)
    success_keys: ClassVar[tuple[str, ...]] = ("sql",)
    args_keys: ClassVar[tuple[str, ...]] = ("sql",)


class ExpectRowsToSatisfy(_LakeExpectation):
    """No row is counted as broken. `sql` answers a struct of `due` and `broken`; `sample_sql` finds broken rows."""

    sample_sql: str

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        counts = metrics["lake.aggregate"]
        due, broken = int(counts["due"]), int(counts["broken"])
        result: dict[str, Any] = {
            "observed_value": f"{broken:,} of {due:,} rows break it",
            "element_count": due,
            "unexpected_count": broken,
        }
        if broken:
            result["partial_unexpected_list"] = _rows(execution_engine, self.sample_sql)
        return {"success": broken == 0, "result": result}


class ExpectMeasureToBeBetween(_LakeExpectation):
    """An aggregate lies within bounds, both included. Null does not."""

    min_value: float | None = None
    max_value: float | None = None

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        value = metrics["lake.aggregate"]
        success = (
            value is not None
            and (self.min_value is None or value >= self.min_value)
            and (self.max_value is None or value <= self.max_value)
        )
        return {"success": bool(success), "result": {"observed_value": "null" if value is None else _plain(value)}}


class ExpectNoRowsFrom(BatchExpectation):
    """A query over any tables of the lake finds nothing."""

    sql: str

    metric_dependencies: ClassVar[tuple[str, ...]] = ()
    success_keys: ClassVar[tuple[str, ...]] = ("sql",)
    args_keys: ClassVar[tuple[str, ...]] = ("sql",)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        rows = _rows(execution_engine, f"select count(*) over () as {COUNT}, found.* from ({self.sql}) as found")
        count = rows[0][COUNT] if rows else 0
        rows = [{name: value for name, value in row.items() if name != COUNT} for row in rows]
        result: dict[str, Any] = {
            "observed_value": f"{count:,} found" if count else "none found",
            "unexpected_count": count,
        }
        if rows:
            result["partial_unexpected_list"] = rows
        return {"success": not rows, "result": result}


def _rows(execution_engine: Any, sql: str) -> list[dict[str, Any]]:
    """A few rows, with values that JSON can hold."""
    # A colon is escaped, or SQLAlchemy takes the word after it for a parameter.
    text = sa.text(f"select * from ({sql}) as found limit {SAMPLE}".replace(":", r"\:"))
    found = execution_engine.execute_query(text)
    return [{column: _plain(value) for column, value in row._mapping.items()} for row in found]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
