with

entries as (

    select
        site,
        device_name,
        reading_at as seen_at,
        1 as is_entry,
        0 as is_treatment,
        0 as is_status
    from {{ ref('stg_nightscout__entries') }}

),

treatments as (

    select
        site,
        device_name,
        treated_at as seen_at,
        0 as is_entry,
        1 as is_treatment,
        0 as is_status
    from {{ ref('stg_nightscout__treatments') }}

),

statuses as (

    select
        site,
        device_name,
        reported_at as seen_at,
        0 as is_entry,
        0 as is_treatment,
        1 as is_status
    from {{ ref('stg_nightscout__devicestatus') }}

),

sightings as (

    select * from entries
    union all
    select * from treatments
    union all
    select * from statuses

),

final as (

    select
        {{ device_id('site', 'device_name') }} as device_id,
        site,
        device_name,
        {{ device_type('device_name') }} as device_type,
        min(seen_at) as first_seen_at,
        max(seen_at) as last_seen_at,
        cast(sum(is_entry) as bigint) as entries,
        cast(sum(is_treatment) as bigint) as treatments,
        cast(sum(is_status) as bigint) as statuses
    from sightings
    where device_name is not null
    group by site, device_name

)

select * from final
