with

source as (

    select * from {{ source('nightscout', 'entries') }}
    where record_id is not null

),

renamed as (

    select
        site,
        record_id,
        interval_date as reading_date,
        type as entry_type,
        coalesce({{ instant_of_epoch_ms('date') }}, {{ instant_of_iso('date_string') }}) as reading_at,
        sgv as glucose_mg_dl,
        mbg as meter_glucose_mg_dl,
        direction as trend,
        delta as delta_mg_dl,
        noise,
        filtered,
        unfiltered,
        rssi,
        slope,
        intercept,
        scale,
        nullif(trim(device), '') as device_name,
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

    {{ not_quarantined('renamed', 'nightscout_entries', 'reading_date') }}

)

select * from final
