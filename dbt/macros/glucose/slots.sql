{#- Sensors report every five minutes: that is one slot. -#}
{% macro slot_ms() -%}
    300000
{%- endmacro %}


{#- Slots of a local day: 288, on the days of a clock change fewer or more. -#}
{% macro slots_of_local_day(day, zone) -%}
    cast(
        ({{ epoch_ms_of(midnight_of(add_days(day, 1), zone)) }} - {{ epoch_ms_of(midnight_of(day, zone)) }}) / {{ slot_ms() }}
        as bigint
    )
{%- endmacro %}


{% macro slots_of_utc_day() -%}
    288
{%- endmacro %}
