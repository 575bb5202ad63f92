{#- Whole years of days, around the days `first` and `last` of a relation, with what a calendar says of each. -#}
{% macro calendar_years(first, last, relation) -%}
    with

    years as (

        select
            cast(date_trunc('year', {{ first }}) as date) as first_day,
            cast(date_trunc('year', {{ last }}) + interval '1' year - interval '1' day as date) as last_day
        from {{ relation }}

    ),

    days as (

        {{ days_between('first_day', 'last_day', 'years') }}

    )

    select
        day as date_day,
        cast(extract(year from day) as integer) as year,
        cast(extract(quarter from day) as integer) as quarter,
        cast(extract(month from day) as integer) as month,
        cast(date_trunc('month', day) as date) as month_start_date,
        cast({{ iso_year('day') }} as integer) as iso_year,
        cast(extract(week from day) as integer) as iso_week,
        cast(date_trunc('week', day) as date) as week_start_date,
        cast(extract(day from day) as integer) as day_of_month,
        cast(extract(doy from day) as integer) as day_of_year,
        cast({{ iso_day_of_week('day') }} as integer) as iso_day_of_week,
        {{ iso_day_of_week('day') }} >= 6 as is_weekend
    from days
{%- endmacro %}
