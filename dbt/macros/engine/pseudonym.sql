{#-
    A keyed hash: who has the table and not the key cannot find out whose row it is by hashing what he knows. The key is
    a variable of the session, which profiles.yml sets from the connection `<domain>_pseudonym`: it is in no SQL that
    dbt compiles, logs or keeps. Without a key nothing is hashed and the model fails. Hashed twice, as HMAC does.
-#}
{% macro keyed_hash(domain, value) -%}
    {{ return(adapter.dispatch('keyed_hash')(domain, value)) }}
{%- endmacro %}

{% macro duckdb__keyed_hash(domain, value) -%}
    {%- set key -%}
        coalesce(nullif(json_extract_string(getvariable('pseudonym_keys'), '$.{{ domain }}'), ''), error('There is no key to pseudonymise with: set the password of the connection {{ domain }}_pseudonym (AIRFLOW_CONN_{{ domain | upper }}_PSEUDONYM), on a laptop by `make setup`.'))
    {%- endset -%}
    sha256({{ key }} || sha256({{ key }} || {{ value }}))
{%- endmacro %}
