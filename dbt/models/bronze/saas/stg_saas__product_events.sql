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

final as (

    {{ not_quarantined('renamed', 'saas_product_events', 'event_date') }}

)

select * from final
