{#- Post-hook, in the model's transaction: drops what the model has replaced, which dbt would do in a transaction, and so
    a snapshot of the lake, of its own. -#}
{% macro drop_backup() %}
    {%- if execute -%}
        {%- set backup = load_cached_relation(make_backup_relation(this, 'table')) -%}
        {%- if backup -%}
            drop {{ backup.type }} if exists {{ backup }}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}
