#!/bin/sh
# Make what must be there before Airflow's services start. Repeatable: an upgrade runs it again.
set -eu
cd "$(dirname "$0")/../.."

airflow db migrate
airflow pools import deploy/airflow/pools.json
# On standard input, so that no process list shows it. An account that is there already keeps its password.
printf '%s\n%s\n' "$AIRFLOW_ADMIN_PASSWORD" "$AIRFLOW_ADMIN_PASSWORD" | airflow users create \
    --role Admin \
    --username "$AIRFLOW_ADMIN_USER" \
    --email "$AIRFLOW_ADMIN_EMAIL" \
    --firstname Lakehouse \
    --lastname Admin
exec python deploy/airflow/prepare.py
