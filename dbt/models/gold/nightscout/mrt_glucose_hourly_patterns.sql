with

readings as (

    select
        *,
        case when {{ iso_day_of_week('local_date') }} >= 6 then 'weekend' else 'weekday' end as day_type
    from {{ ref('fct_cgm_reading') }}

),

windows as (

    select
        site,
        {{ add_days('max(local_date)', -89) }} as window_start_date,
        max(local_date) as window_end_date
    from readings
    group by site

),

measured as (

    select
        readings.site,
        readings.day_type,
        readings.local_hour,
        windows.window_start_date,
        windows.window_end_date,
        count(distinct readings.local_date) as days_with_readings,
        {{ glycaemia('readings.glucose_mg_dl', in_order_of='readings.reading_at') }}
    from readings
    inner join windows
        on
            readings.site = windows.site
            and readings.local_date between windows.window_start_date and windows.window_end_date
    group by
        readings.site,
        readings.day_type,
        readings.local_hour,
        windows.window_start_date,
        windows.window_end_date

),

final as (

    select
        site,
        day_type,
        local_hour,
        window_start_date,
        window_end_date,
        days_with_readings,
        readings,
        mean_mg_dl,
        sd_mg_dl,
        median_mg_dl,
        below_54_pct,
        below_70_pct,
        in_range_70_180_pct,
        above_180_pct,
        above_250_pct
    from measured

)

select * from final
