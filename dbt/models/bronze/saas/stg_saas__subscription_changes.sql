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

final as (

    {{ not_quarantined('renamed', 'saas_subscription_changes', 'created_date') }}

)

select * from final
