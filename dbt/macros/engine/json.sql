{#- A lateral table of an object's members or an array's elements: `key` (text) and `value` (JSON). Text that is
    no JSON gives no rows. -#}
{% macro json_members(json, alias) -%}
    {{ return(adapter.dispatch('json_members')(json, alias)) }}
{%- endmacro %}

{% macro duckdb__json_members(json, alias) -%}
    json_each(case when json_valid({{ json }}) then {{ json }} end) as {{ alias }}
{%- endmacro %}


{% macro json_text(json, key) -%}
    {{ return(adapter.dispatch('json_text')(json, key)) }}
{%- endmacro %}

{% macro duckdb__json_text(json, key) -%}
    json_extract_string({{ json }}, '$.{{ key }}')
{%- endmacro %}


{% macro json_value(json, key) -%}
    {{ return(adapter.dispatch('json_value')(json, key)) }}
{%- endmacro %}

{% macro duckdb__json_value(json, key) -%}
    json_extract({{ json }}, '$.{{ key }}')
{%- endmacro %}
