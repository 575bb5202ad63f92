{{
    config(
        materialized='incremental',
        incremental_strategy='rebuild_days',
        partitioned_by=['year(local_date)', 'month(local_date)'],
    )
}}

{%- set plan = rebuild_plan(day='local_date', reads={'nightscout_entries': 'fct_cgm_reading'}) %}

{{ rebuild_line(plan) }}

with

readings as (

    select * from {{ ref('fct_cgm_reading') }}
    where
        {{ in_rebuild(plan, 'site', 'local_date') }}
        and {{ in_rebuild(plan, 'site', 'reading_date', widen=1) }}

),

measured as (

    select
        site,
        local_date,
        max_by(time_zone, reading_at) as time_zone,
        {{ glycaemia('glucose_mg_dl', in_order_of='reading_at') }}
    from readings
    group by site, local_date

),

expected as (

    select
        *,
        {{ slots_of_local_day('local_date', 'time_zone') }} as expected_readings
    from measured

),

final as (

    select
        site,
        local_date,
        time_zone,
        mean_mg_dl,
        sd_mg_dl,
        {{ cv_pct('sd_mg_dl', 'mean_mg_dl') }} as cv_pct,
        {{ gmi_pct('mean_mg_dl') }} as gmi_pct,
        below_54_pct,
        below_70_pct,
        in_range_70_180_pct,
        in_range_70_140_pct,
        above_180_pct,
        above_250_pct,
        lbgi,
        hbgi,
        {{ gri('below_54_pct', 'below_70_pct', 'above_180_pct', 'above_250_pct') }} as gri,
        {{ j_index('mean_mg_dl', 'sd_mg_dl') }} as j_index,
        median_mg_dl,
        iqr_mg_dl,
        readings,
        expected_readings,
        {{ coverage_pct('readings', 'expected_readings') }} as coverage_pct
    from expected

)

select * from final
