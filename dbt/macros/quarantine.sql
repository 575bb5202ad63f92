{#- The rows of a bronze table that a gate has set aside. -#}
{% macro quarantine(table) -%}
    {{ rebuild__relation('quarantine', table) }}
{%- endmacro %}
