# One image for Airflow's services, the init service and the `lake` command. Its code belongs to root and is not written
# at run time: a new version is a new image. Build with `deploy/make-env && docker compose build`.
FROM apache/airflow:3.3.2-python3.12 AS build
SHELL ["/bin/bash", "-o", "errexit", "-o", "nounset", "-o", "pipefail", "-c"]
USER root

# An environment of its own holds the lock and nothing else; the image's own has providers that nobody tested with it.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_USER=0
RUN python -m venv /opt/venv
WORKDIR /opt/lakehouse
COPY requirements.lock ./
RUN /opt/venv/bin/python -m pip install --require-hashes --no-deps --only-binary=:all: --requirement requirements.lock

COPY pyproject.toml ./
COPY include ./include
COPY dags ./dags
COPY plugins ./plugins
COPY dbt ./dbt
COPY deploy/airflow ./deploy/airflow
COPY deploy/airflow_local_settings.py ./config/airflow_local_settings.py
RUN /opt/venv/bin/python -m pip install --no-deps --no-build-isolation --editable . \
    && /opt/venv/bin/python -m compileall -q config dags deploy include plugins

ENV DBT_SEND_ANONYMOUS_USAGE_STATS=false \
    DO_NOT_TRACK=1 \
    LAKE_EXTENSION_DIR=/opt/duckdb \
    LAKE_HOME=/tmp/lakehouse
RUN /opt/venv/bin/python deploy/airflow/build.py


FROM apache/airflow:3.3.2-python3.12
SHELL ["/bin/bash", "-o", "errexit", "-o", "nounset", "-o", "pipefail", "-c"]
USER root

# Certified numbers name the code that made them, so there is no image without a version.
ARG CODE_VERSION
RUN [[ -n "${CODE_VERSION:-}" ]] \
    || { echo "CODE_VERSION is not set; run deploy/make-env and build with docker compose." >&2; exit 1; }
# What is written at run time: mount volumes here. They take over owner and mode.
RUN install --directory --owner=50000 --group=0 --mode=0770 /var/backups/lakehouse /var/lib/lakehouse /var/log/airflow

COPY --from=build --chown=root:root /opt/venv /opt/venv
COPY --from=build --chown=root:root /opt/duckdb /opt/duckdb
COPY --from=build --chown=root:root /opt/lakehouse /opt/lakehouse

ENV AIRFLOW__CORE__DAGS_FOLDER=/opt/lakehouse/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/lakehouse/plugins \
    AIRFLOW__COSMOS__ENABLE_TELEMETRY=False \
    DBT_SEND_ANONYMOUS_USAGE_STATS=false \
    DO_NOT_TRACK=1 \
    GX_ANALYTICS_ENABLED=false \
    LAKE_CODE_VERSION=${CODE_VERSION} \
    LAKE_EXTENSION_DIR=/opt/duckdb \
    LAKE_HOME=/var/lib/lakehouse \
    PATH=/opt/venv/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/lakehouse/config \
    PYTHONUNBUFFERED=1 \
    RUNTIME__DLTHUB_TELEMETRY=false \
    SCARF_ANALYTICS=false \
    VIRTUAL_ENV=/opt/venv
WORKDIR /opt/lakehouse
USER 50000:0
