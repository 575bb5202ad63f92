"""What is worth a retry: a lost race in the lake or a source that is away; never a bad schema or a red gate."""

from datetime import timedelta

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from include.errors import CONNECTION_LOST, GateError, LakehouseError

CONFLICT_DELAY = timedelta(seconds=5)
SOURCE_DELAY = timedelta(minutes=2)

# What DuckDB, DuckLake and libpq say when another attempt can succeed.
TRANSIENT = (
    "transaction conflict",
    "failed to commit ducklake transaction",
    "could not serialize access",
    "deadlock detected",
    *CONNECTION_LOST,
    # An object store that is busy, away, or cuts a transfer; not one that refuses.
    "error for http",
    "http 500",
    "http 502",
    "http 503",
    "http 504",
    "slowdown",
)


class LakeRetryPolicy(RetryPolicy):
    """Retries lake conflicts and lost connections soon, absent sources later, and nothing that a retry cannot mend."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context=None) -> RetryDecision:
        chain = list(_chain(exception))
        if any(isinstance(error, GateError) for error in chain):
            return RetryDecision.fail("a gate is red: mend the data or the check, then clear the task")
        if any(isinstance(error, LakehouseError) and error.retryable for error in chain):
            return RetryDecision.retry(SOURCE_DELAY, "the source or the lake was away")
        text = " ".join(str(error) for error in chain).lower()
        if any(phrase in text for phrase in TRANSIENT):
            return RetryDecision.retry(CONFLICT_DELAY, "the lake or its catalog was busy or away")
        if any(isinstance(error, LakehouseError) for error in chain):
            return RetryDecision.fail("trying again cannot mend this")
        return RetryDecision.default()


def _chain(exception: BaseException | None):
    while exception is not None:
        yield exception
        exception = exception.__cause__ or exception.__context__
