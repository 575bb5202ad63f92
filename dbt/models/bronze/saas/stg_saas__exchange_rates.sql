with

source as (

    select * from {{ source('saas', 'exchange_rates') }}
    where
        record_id is not null
        and deleted_at is null
        and source_deleted_at is null

),

renamed as (

    select
        site,
        record_id,
        interval_date as created_date,
        rate_id,
        currency,
        rate_date,
        cast(rate_to_usd as decimal(18, 8)) as rate_to_usd,
        created_at,
        updated_at,
        load_seq,
        fetched_at
    from source

),

final as (

    {{ not_quarantined('renamed', 'saas_exchange_rates', 'created_date') }}

)

select * from final
