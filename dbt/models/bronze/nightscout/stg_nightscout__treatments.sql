with

source as (

    select * from {{ source('nightscout', 'treatments') }}
    where record_id is not null

),

renamed as (

    select
        site,
        record_id,
        interval_date as treatment_date,
        coalesce(nullif(trim(event_type), ''), 'Unknown') as event_type,
        coalesce({{ instant_of_iso('created_at') }}, {{ instant_of_epoch_ms('date') }}) as treated_at,
        insulin as insulin_units,
        carbs as carbs_g,
        protein as protein_g,
        fat as fat_g,
        glucose,
        glucose_type,
        units as glucose_units,
        duration as duration_minutes,
        percent as basal_change_pct,
        absolute as basal_units_per_hour,
        rate as basal_rate,
        profile as profile_name,
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

    {{ not_quarantined('renamed', 'nightscout_treatments', 'treatment_date') }}

)

select * from final
