"""Run in a process of its own, with Airflow's environment: what an administrator sets up after `airflow db migrate`."""

import json
import sys
from datetime import UTC, datetime

from airflow.models.connection import Connection
from airflow.models.dagrun import DagRun
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils.session import create_session
from airflow.utils.types import DagRunType


def main() -> None:
    wanted = json.load(sys.stdin)
    with create_session() as session:
        for conn_id, uri in wanted["connections"].items():
            session.add(Connection(conn_id=conn_id, uri=uri))
        when = datetime(2026, 11, 3, tzinfo=UTC)
        for dag_id, run_id in wanted["runs"]:
            session.add(DagRun(dag_id=dag_id, run_id=run_id, run_type=DagRunType.SCHEDULED, run_after=when))
    with get_application_builder() as builder:
        manager = builder.sm
        manager.sync_roles()
        manager.add_role("Nothing")
        for user, role, password in wanted["users"]:
            added = manager.add_user(user, user, user, f"{user}@example.org", manager.find_role(role), password)
            assert added, f"user {user} was not added"


main()
