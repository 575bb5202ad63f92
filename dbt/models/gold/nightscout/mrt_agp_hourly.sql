with

readings as (

    select * from {{ ref('fct_cgm_reading') }}

),

last_days as (

    select
        site,
        max(local_date) as last_date
    from readings
    group by site

),

windows as (

    select
        last_days.site,
        lengths.window_days,
        {{ add_days('last_days.last_date', '1 - lengths.window_days') }} as window_start_date,
        last_days.last_date as window_end_date
    from last_days
    cross join (values (14), (90)) as lengths (window_days)

),

final as (

    select
        windows.site,
        windows.window_days,
        readings.local_hour,
        windows.window_start_date,
        windows.window_end_date,
        count(*) as readings,
        count(distinct readings.local_date) as days_with_readings,
        {{ quantile('readings.glucose_mg_dl', 0.05) }} as p05_mg_dl,
        {{ quantile('readings.glucose_mg_dl', 0.25) }} as p25_mg_dl,
        {{ quantile('readings.glucose_mg_dl', 0.5) }} as p50_mg_dl,
        {{ quantile('readings.glucose_mg_dl', 0.75) }} as p75_mg_dl,
        {{ quantile('readings.glucose_mg_dl', 0.95) }} as p95_mg_dl
    from windows
    inner join readings
        on
            windows.site = readings.site
            and readings.local_date between windows.window_start_date and windows.window_end_date
    group by
        windows.site,
        windows.window_days,
        readings.local_hour,
        windows.window_start_date,
        windows.window_end_date

)

select * from final
