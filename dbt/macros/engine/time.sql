{#- Instants are timestamp with time zone; wall-clock times are timestamp without. -#}

{% macro instant_of_epoch_ms(ms) -%}
    {{ return(adapter.dispatch('instant_of_epoch_ms')(ms)) }}
{%- endmacro %}

{% macro duckdb__instant_of_epoch_ms(ms) -%}
    make_timestamptz({{ ms }} * 1000)
{%- endmacro %}


{% macro epoch_ms_of(instant) -%}
    {{ return(adapter.dispatch('epoch_ms_of')(instant)) }}
{%- endmacro %}

{% macro duckdb__epoch_ms_of(instant) -%}
    epoch_ms({{ instant }})
{%- endmacro %}


{#- Null for a text that is no ISO 8601 time; one without a zone is UTC. -#}
{% macro instant_of_iso(text) -%}
    {{ return(adapter.dispatch('instant_of_iso')(text)) }}
{%- endmacro %}

{% macro duckdb__instant_of_iso(text) -%}
    try_cast({{ text }} as timestamp with time zone)
{%- endmacro %}


{% macro wall_clock(instant, zone) -%}
    {{ return(adapter.dispatch('wall_clock')(instant, zone)) }}
{%- endmacro %}

{% macro duckdb__wall_clock(instant, zone) -%}
    timezone({{ zone }}, {{ instant }})
{%- endmacro %}


{#- The instant at which a local day begins. -#}
{% macro midnight_of(day, zone) -%}
    {{ return(adapter.dispatch('midnight_of')(day, zone)) }}
{%- endmacro %}

{% macro duckdb__midnight_of(day, zone) -%}
    timezone({{ zone }}, cast({{ day }} as timestamp))
{%- endmacro %}


{% macro add_days(day, number) -%}
    {{ return(adapter.dispatch('add_days')(day, number)) }}
{%- endmacro %}

{% macro duckdb__add_days(day, number) -%}
    ({{ day }} + {{ number }})
{%- endmacro %}


{% macro iso_day_of_week(day) -%}
    {{ return(adapter.dispatch('iso_day_of_week')(day)) }}
{%- endmacro %}

{% macro duckdb__iso_day_of_week(day) -%}
    isodow({{ day }})
{%- endmacro %}


{% macro iso_year(day) -%}
    {{ return(adapter.dispatch('iso_year')(day)) }}
{%- endmacro %}

{% macro duckdb__iso_year(day) -%}
    isoyear({{ day }})
{%- endmacro %}


{#- One row per day from `first` to `last`, both included, in a column `day`, with the `columns` of its row. -#}
{% macro days_between(first, last, relation, columns='') -%}
    {{ return(adapter.dispatch('days_between')(first, last, relation, columns)) }}
{%- endmacro %}

{% macro duckdb__days_between(first, last, relation, columns) -%}
    select {{ columns ~ ', ' if columns }}cast(unnest(generate_series({{ first }}, {{ last }}, interval 1 day)) as date) as day
    from {{ relation }}
    where {{ first }} is not null
{%- endmacro %}


{#- The instant at which a UTC day begins. -#}
{% macro instant_of_day(day) -%}
    {{ midnight_of(day, "'UTC'") }}
{%- endmacro %}


{#- The first day of the month that a day or a UTC instant lies in. -#}
{% macro month_of(day) -%}
    {{ return(adapter.dispatch('month_of')(day)) }}
{%- endmacro %}

{% macro duckdb__month_of(day) -%}
    cast(date_trunc('month', {{ day }}) as date)
{%- endmacro %}


{% macro add_months(day, number) -%}
    {{ return(adapter.dispatch('add_months')(day, number)) }}
{%- endmacro %}

{% macro duckdb__add_months(day, number) -%}
    cast({{ day }} + to_months({{ number }}) as date)
{%- endmacro %}


{#- From the month of one day to that of another, in months. -#}
{% macro months_from(first, last) -%}
    {{ return(adapter.dispatch('months_from')(first, last)) }}
{%- endmacro %}

{% macro duckdb__months_from(first, last) -%}
    cast(date_diff('month', {{ first }}, {{ last }}) as integer)
{%- endmacro %}


{#- Whole days (of 24 hours) from one instant to another. -#}
{% macro whole_days(first, last) -%}
    {{ return(adapter.dispatch('whole_days')(first, last)) }}
{%- endmacro %}

{% macro duckdb__whole_days(first, last) -%}
    cast((epoch_ms({{ last }}) - epoch_ms({{ first }})) // 86400000 as bigint)
{%- endmacro %}


{#- The columns of `columns` and, in a column `month_start_date`, each month from that of `first` to that of `last`. -#}
{% macro months_between(first, last, relation, columns) -%}
    {{ return(adapter.dispatch('months_between')(first, last, relation, columns)) }}
{%- endmacro %}

{% macro duckdb__months_between(first, last, relation, columns) -%}
    select
        {{ columns }},
        cast(
            unnest(generate_series({{ duckdb__month_of(first) }}, {{ duckdb__month_of(last) }}, interval 1 month)) as date
        ) as month_start_date
    from {{ relation }}
{%- endmacro %}
