{{
    config(
        materialized='incremental',
        incremental_strategy='rebuild_days',
        partitioned_by=['year(reading_date)', 'month(reading_date)'],
    )
}}

{%- set plan = rebuild_plan(day='reading_date', reads={'nightscout_entries': 'fct_cgm_reading'}) %}

{{ rebuild_line(plan) }}

with

readings as (

    select * from {{ ref('fct_cgm_reading') }}
    where {{ in_rebuild(plan, 'site', 'reading_date') }}

),

final as (

    select
        site,
        slot_at,
        reading_at,
        reading_date,
        local_at,
        local_date,
        local_hour,
        cast({{ iso_day_of_week('local_date') }} as integer) as iso_day_of_week,
        {{ iso_day_of_week('local_date') }} >= 6 as is_weekend,
        time_zone,
        glucose_mg_dl,
        glucose_mmol_l,
        case
            when glucose_mg_dl < 54 then 'very low'
            when glucose_mg_dl < 70 then 'low'
            when glucose_mg_dl <= 180 then 'in range'
            when glucose_mg_dl <= 250 then 'high'
            else 'very high'
        end as glucose_range,
        trend,
        is_late
    from readings

)

select * from final
