with

source as (

    select * from {{ source('nightscout', 'devicestatus') }}
    where record_id is not null

),

renamed as (

    select
        site,
        record_id,
        interval_date as status_date,
        coalesce({{ instant_of_iso('created_at') }}, {{ instant_of_epoch_ms('date') }}) as reported_at,
        nullif(trim(device), '') as device_name,
        uploader_battery as uploader_battery_pct,
        uploader,
        pump,
        loop,
        openaps,
        {{ instant_of_epoch_ms('srv_created') }} as received_at,
        {{ instant_of_epoch_ms('srv_modified') }} as modified_at,
        app,
        api_version,
        site_time_zone as time_zone,
        site_units,
        load_seq,
        fetched_at
    from source

),

final as (

    {{ not_quarantined('renamed', 'nightscout_devicestatus', 'status_date') }}

)

select * from final
