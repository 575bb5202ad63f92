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

windows as (

    select
        site,
        interval_date as reading_date,
        window_records,
        quarantined_records,
        {{ instant_of_day('interval_date') }} as day_starts_at,
        {{ instant_of_day(add_days('interval_date', 1)) }} as day_ends_at
    from {{ ref('stg_nightscout__windows') }}
    where
        stream = 'entries'
        and {{ in_rebuild(plan, 'site', 'interval_date') }}

),

entries as (

    select
        site,
        reading_date,
        count(*) as passed_records,
        count(*) filter (where entry_type = 'sgv' and glucose_mg_dl is not null) as sensor_records
    from {{ ref('stg_nightscout__entries') }}
    where {{ in_rebuild(plan, 'site', 'reading_date') }}
    group by site, reading_date

),

readings as (

    select * from {{ ref('fct_cgm_reading') }}
    where {{ in_rebuild(plan, 'site', 'reading_date') }}

),

received as (

    select
        site,
        reading_date,
        count(*) as received_readings,
        count(*) filter (where is_late) as late_readings,
        count(is_late) as timed_readings
    from readings
    group by site, reading_date

),

moments as (

    select
        site,
        reading_date,
        reading_at as moment
    from readings
    union all
    select
        site,
        reading_date,
        day_starts_at as moment
    from windows
    union all
    select
        site,
        reading_date,
        day_ends_at as moment
    from windows

),

steps as (

    select
        site,
        reading_date,
        {{ epoch_ms_of('lead(moment) over day_of_site') }} - {{ epoch_ms_of('moment') }} as step_ms
    from moments
    window day_of_site as (partition by site, reading_date order by moment)

),

gaps as (

    select
        site,
        reading_date,
        max(step_ms) / 60000.0 as longest_gap_minutes
    from steps
    group by site, reading_date

),

final as (

    select
        windows.site,
        windows.reading_date,
        cast({{ slots_of_utc_day() }} as bigint) as expected_readings,
        coalesce(received.received_readings, 0) as received_readings,
        {{ coverage_pct('coalesce(received.received_readings, 0)', slots_of_utc_day()) }} as coverage_pct,
        gaps.longest_gap_minutes,
        windows.window_records as landed_records,
        coalesce(entries.passed_records, 0) as passed_records,
        windows.quarantined_records,
        coalesce(entries.sensor_records, 0) - coalesce(received.received_readings, 0) as duplicate_readings,
        coalesce(received.late_readings, 0) as late_readings,
        100.0 * received.late_readings / nullif(received.timed_readings, 0) as late_pct
    from windows
    left join entries using (site, reading_date)
    left join received using (site, reading_date)
    left join gaps using (site, reading_date)

)

select * from final
