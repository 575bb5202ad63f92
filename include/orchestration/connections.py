"""Airflow Connections as the values that the core takes."""

from include.connections import Connection


def airflow_connection(conn_id: str) -> Connection:
    """The Airflow Connection `conn_id`; read when a task runs, never while a DAG is parsed."""
    from airflow.sdk import BaseHook

    found = BaseHook.get_connection(conn_id)
    if found.conn_type == "aws":
        return _aws(conn_id)
    return Connection(
        conn_id=conn_id,
        host=found.host,
        port=found.port,
        login=found.login,
        password=found.password,
        schema=found.schema,
        extra=found.extra_dejson,
    )


def _aws(conn_id: str) -> Connection:
    """Through the amazon provider, so that profiles, roles and instance credentials work as everywhere in Airflow."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from airflow.sdk import BaseHook

    found = BaseHook.get_connection(conn_id)
    hook = AwsBaseHook(aws_conn_id=conn_id, client_type="s3")
    credentials = hook.get_credentials(region_name=hook.region_name)
    return Connection(
        conn_id=conn_id,
        login=credentials.access_key,
        password=credentials.secret_key,
        extra={**found.extra_dejson, "session_token": credentials.token},
    )
