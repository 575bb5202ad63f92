{{
    config(
        materialized='incremental',
        incremental_strategy='rebuild_days',
        partitioned_by=['year(bolus_date)', 'month(bolus_date)'],
    )
}}

{%- set plan = rebuild_plan(day='bolus_date', reads={'nightscout_treatments': none}) %}

{{ rebuild_line(plan) }}

with

treatments as (

    select * from {{ ref('stg_nightscout__treatments') }}
    where
        insulin_units > 0
        and event_type <> 'Temp Basal'
        and treated_at is not null
        and {{ in_rebuild(plan, 'site', 'treatment_date') }}

),

unrepeated as (

    select
        *,
        row_number() over (
            partition by site, treatment_date, record_id
            order by modified_at desc nulls last, treated_at asc, event_type asc, insulin_units asc
        ) as place_of_record
    from treatments

),

distinct_events as (

    select
        *,
        row_number() over (
            partition by site, treatment_date, treated_at, event_type, insulin_units
            order by record_id
        ) as place_of_event,
        {{ wall_clock('treated_at', "coalesce(time_zone, 'UTC')") }} as local_at
    from unrepeated
    where place_of_record = 1

),

final as (

    select
        site,
        record_id as bolus_id,
        treated_at as bolus_at,
        treatment_date as bolus_date,
        coalesce(time_zone, 'UTC') as time_zone,
        local_at,
        cast(local_at as date) as local_date,
        cast(extract(hour from local_at) as integer) as local_hour,
        event_type,
        event_type in ('SMB', 'Automatic Bolus') as is_automatic,
        insulin_units,
        duration_minutes,
        {{ as_mg_dl('glucose', 'coalesce(glucose_units, site_units)') }} as glucose_mg_dl,
        glucose_type,
        {{ device_id('site', 'device_name') }} as device_id
    from distinct_events
    where place_of_event = 1

)

select * from final
