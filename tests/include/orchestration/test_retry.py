import pytest
from airflow.sdk.definitions.retry_policy import RetryAction

from include.errors import GateError, ReleaseError, SourceError
from include.orchestration.retry import LakeRetryPolicy


def decide(error: BaseException) -> RetryAction:
    return LakeRetryPolicy().evaluate(error, 1, 3).action


def wrapped(cause: BaseException) -> RuntimeError:
    error = RuntimeError("dbt failed")
    error.__cause__ = cause
    return error


def away(message: str) -> SourceError:
    error = SourceError(message)
    error.retryable = True
    return error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to commit DuckLake transaction: Transaction conflict - attempting to insert"),
        away("site amber did not answer"),
        wrapped(RuntimeError("connection to server on socket failed: Connection refused")),
        ReleaseError("could not publish: FATAL: terminating connection due to administrator command"),
        RuntimeError('Failed to execute query "COMMIT": server closed the connection unexpectedly'),
        RuntimeError("consuming input failed: could not receive data from server: Connection reset by peer"),
        RuntimeError("FATAL:  the database system is shutting down"),
        RuntimeError("the connection is closed"),
        RuntimeError("IO Error: Transferred a partial file error for HTTP GET to 'http://s3/lake/a.parquet'"),
        RuntimeError("IO Error: Could not establish connection error for HTTP HEAD to 'http://s3/lake/a.parquet'"),
        RuntimeError("HTTP Error: Unable to connect to URL http://s3/a.parquet: Service Unavailable (HTTP 503)"),
    ],
)
def test_what_can_pass_is_tried_again(error: BaseException) -> None:
    assert decide(error) is RetryAction.RETRY


@pytest.mark.parametrize(
    "error",
    [
        GateError("gate_gold is red"),
        SourceError("field sgv of stream entries was double, now text"),
        wrapped(GateError("gate_silver is red: transaction conflict")),
    ],
)
def test_what_a_retry_cannot_mend_fails_at_once(error: BaseException) -> None:
    assert decide(error) is RetryAction.FAIL


def test_unknown_errors_follow_the_tasks_own_retries() -> None:
    assert decide(ValueError("?")) is RetryAction.DEFAULT
