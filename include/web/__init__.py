"""The pages that the Airflow plugin shows: Data Docs, dbt docs, releases and status. Knows nothing of Airflow."""
