-- Roles and databases of the server, as include/local/postgres.py makes them on a laptop. The image runs this when the
-- volume is new; run it again to change passwords:
--   docker compose exec postgres sh -c 'PGPASSWORD=$POSTGRES_PASSWORD psql -U postgres -f /docker-entrypoint-initdb.d/roles.sql'
\set ON_ERROR_STOP on
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv lake_password CATALOG_DB_PASSWORD
\getenv lake_reader_password CATALOG_READER_PASSWORD
\getenv publisher_password MARTS_PUBLISHER_PASSWORD
\getenv reader_password MARTS_READER_PASSWORD

-- A statement that fails is logged whole, and these hold passwords.
set log_min_error_statement = 'panic';
set log_statement = 'none';
set log_min_duration_statement = -1;
set password_encryption = 'scram-sha-256';

select format('create role %I login', role)
from unnest(array['airflow', 'lake', 'lake_reader', 'marts_publisher', 'marts_reader']) as wanted (role)
where not exists (select from pg_roles where rolname = role)
\gexec

alter role airflow password :'airflow_password';
alter role lake password :'lake_password';
alter role lake_reader password :'lake_reader_password';
alter role marts_publisher password :'publisher_password';
alter role marts_reader password :'reader_password';

select format('create database %I owner %I', database, role)
from (values ('airflow', 'airflow'), ('lake_catalog', 'lake'), ('marts', 'marts_publisher')) as wanted (database, role)
where not exists (select from pg_database where datname = database)
\gexec

revoke all on database airflow, lake_catalog, marts from public;
grant connect on database lake_catalog to lake_reader;
grant connect on database marts to marts_reader;
