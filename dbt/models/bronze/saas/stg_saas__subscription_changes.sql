with

source as (

    select * from {{ source('saas', 'subscription_changes') }}
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
        change_id,
        subscription_id,
        change_type,
        effective_at,
        plan_version_id,
        quantity,
        cast(amount as decimal(12, 2)) as amount,
        billing_period,
        created_at,
        updated_at,
        load_seq,
        fetched_at
    from source

),

quarantined as (

    select * from {{ quarantine('saas_subscription_changes') }}

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
