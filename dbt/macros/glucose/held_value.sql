{#- The value of a daily schedule in force: the last one set, or before the first one of the day that first one.
    Needs the windows so_far and whole_day. -#}
{% macro held_value(setting) -%}
    coalesce(
        last_value({{ setting }} ignore nulls) over so_far,
        first_value({{ setting }} ignore nulls) over whole_day
    )
{%- endmacro %}
