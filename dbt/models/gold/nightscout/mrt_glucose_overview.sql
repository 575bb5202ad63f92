with

readings as (

    select * from {{ ref('fct_cgm_reading') }}

),

sites as (

    select
        site,
        max(local_date) as last_date,
        max(reading_at) as last_reading_at,
        max_by(glucose_mg_dl, reading_at) as last_glucose_mg_dl,
        max_by(time_zone, reading_at) as time_zone
    from readings
    group by site

),

periods as (

    select
        sites.site,
        ages.period,
        {{ add_days('sites.last_date', '-13 - ages.days_before') }} as first_day,
        {{ add_days('sites.last_date', '-ages.days_before') }} as last_day
    from sites
    cross join (values ('current', 0), ('previous', 14)) as ages (period, days_before)

),

measured as (

    select
        periods.site,
        periods.period,
        count(distinct readings.local_date) as days_with_readings,
        {{ glycaemia('readings.glucose_mg_dl', in_order_of='readings.reading_at') }}
    from periods
    inner join readings
        on
            periods.site = readings.site
            and readings.local_date between periods.first_day and periods.last_day
    group by periods.site, periods.period

),

insulin as (

    select
        periods.site,
        sum(bolus.insulin_units order by bolus.bolus_at, bolus.bolus_id) as insulin_units
    from periods
    inner join {{ ref('fct_bolus_event') }} as bolus
        on
            periods.site = bolus.site
            and bolus.local_date between periods.first_day and periods.last_day
    where periods.period = 'current'
    group by periods.site

),

carbohydrates as (

    select
        periods.site,
        sum(carb.carbs_g order by carb.carb_at, carb.carb_id) as carbs_g
    from periods
    inner join {{ ref('fct_carb_event') }} as carb
        on
            periods.site = carb.site
            and carb.local_date between periods.first_day and periods.last_day
    where periods.period = 'current'
    group by periods.site

),

expected as (

    select
        periods.site,
        periods.first_day as period_start_date,
        periods.last_day as period_end_date,
        cast(
            (
                {{ epoch_ms_of(midnight_of(add_days('periods.last_day', 1), 'sites.time_zone')) }}
                - {{ epoch_ms_of(midnight_of('periods.first_day', 'sites.time_zone')) }}
            ) / {{ slot_ms() }} as bigint
        ) as expected_readings
    from periods
    inner join sites using (site)
    where periods.period = 'current'

),

final as (

    select
        sites.site,
        sites.time_zone,
        expected.period_start_date,
        expected.period_end_date,
        sites.last_reading_at,
        sites.last_glucose_mg_dl,
        this_period.days_with_readings,
        this_period.readings,
        expected.expected_readings,
        {{ coverage_pct('this_period.readings', 'expected.expected_readings') }} as coverage_pct,
        {{ coverage_pct('this_period.readings', 'expected.expected_readings') }} >= 70 as is_representative,
        this_period.mean_mg_dl,
        this_period.sd_mg_dl,
        {{ cv_pct('this_period.sd_mg_dl', 'this_period.mean_mg_dl') }} as cv_pct,
        {{ gmi_pct('this_period.mean_mg_dl') }} as gmi_pct,
        this_period.below_54_pct,
        this_period.below_70_pct,
        this_period.in_range_70_180_pct,
        this_period.above_180_pct,
        this_period.above_250_pct,
        {{ gri(
            'this_period.below_54_pct',
            'this_period.below_70_pct',
            'this_period.above_180_pct',
            'this_period.above_250_pct'
        ) }} as gri,
        insulin.insulin_units / 14 as bolus_units_per_day,
        carbohydrates.carbs_g / 14 as carbs_g_per_day,
        earlier_period.readings as previous_readings,
        earlier_period.mean_mg_dl as previous_mean_mg_dl,
        earlier_period.in_range_70_180_pct as previous_in_range_70_180_pct,
        this_period.mean_mg_dl - earlier_period.mean_mg_dl as mean_change_mg_dl,
        this_period.in_range_70_180_pct - earlier_period.in_range_70_180_pct as in_range_change_points,
        this_period.below_70_pct - earlier_period.below_70_pct as below_70_change_points
    from sites
    inner join expected using (site)
    inner join measured as this_period
        on sites.site = this_period.site and this_period.period = 'current'
    left join measured as earlier_period
        on sites.site = earlier_period.site and earlier_period.period = 'previous'
    left join insulin on sites.site = insulin.site
    left join carbohydrates on sites.site = carbohydrates.site

)

select * from final
