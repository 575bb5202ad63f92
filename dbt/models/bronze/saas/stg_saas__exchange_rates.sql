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

quarantined as (

    select * from {{ quarantine('saas_exchange_rates') }}

),

final as (

    select renamed.*
    from renamed
    left join quarantined
        on
            renamed.site = quarantined.site
            and renamed.created_date = quarantined.interval_date
            and renamed.record_id = quarantined.record_id
            and renamed.load_seq = quarantined.load_seq
    where quarantined.record_id is null

)

select * from final
