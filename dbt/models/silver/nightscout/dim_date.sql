with

windows as (

    select interval_date from {{ ref('stg_nightscout__windows') }}
    where stream <> 'profile'

),

reach as (

    select
        {{ add_days('min(interval_date)', -1) }} as first_local_day,
        {{ add_days('max(interval_date)', 1) }} as last_local_day
    from windows

),

years as (

    select
        cast(date_trunc('year', first_local_day) as date) as first_day,
        cast(date_trunc('year', last_local_day) + interval '1' year - interval '1' day as date) as last_day
    from reach

),

days as (

    {{ days_between('first_day', 'last_day', 'years') }}

),

final as (

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

)

select * from final
