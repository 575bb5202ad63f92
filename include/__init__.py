"""The lakehouse's plain-Python core; only `include.orchestration` knows Airflow."""
