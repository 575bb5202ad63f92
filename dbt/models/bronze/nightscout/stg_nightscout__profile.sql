with

source as (

    select * from {{ source('nightscout', 'profile') }}
    where record_id is not null

),

renamed as (

    select
        site,
        record_id,
        interval_date as profile_date,
        coalesce({{ instant_of_iso('start_date') }}, {{ instant_of_iso('created_at') }}) as started_at,
        {{ instant_of_iso('created_at') }} as created_at,
        default_profile,
        units as profile_units,
        store,
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

    {{ not_quarantined('renamed', 'nightscout_profile', 'profile_date') }}

)

select * from final
