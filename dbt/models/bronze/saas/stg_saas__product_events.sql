with

source as (

    select * from {{ source('saas', 'product_events') }}
    where
        record_id is not null
        and deleted_at is null
        and source_deleted_at is null

),

renamed as (

    select
        site,
        record_id,
        interval_date as event_date,
        event_id,
        account_id,
        user_id,
        event_name,
        occurred_at,
        properties,
        created_at,
        updated_at,
        load_seq,
        fetched_at
    from source

),

quarantined as (

    select * from {{ quarantine('saas_product_events') }}

),

final as (

    select renamed.*
    from renamed
    left join quarantined
        on
            renamed.site = quarantined.site
            and renamed.event_date = quarantined.interval_date
            and renamed.record_id = quarantined.record_id
            and renamed.load_seq = quarantined.load_seq
    where quarantined.record_id is null

)

select * from final
