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

quarantined as (

    select * from {{ quarantine('nightscout_profile') }}

),

final as (

    select renamed.*
    from renamed
    left join quarantined
        on
            renamed.site = quarantined.site
            and renamed.profile_date = quarantined.interval_date
            and renamed.record_id = quarantined.record_id
            and renamed.load_seq = quarantined.load_seq
    where quarantined.record_id is null

)

select * from final
