with

source as (

    select * from {{ source('saas', 'subscriptions') }}
    where record_id is not null

),

renamed as (

    select
        site,
        record_id,
        interval_date as created_date,
        subscription_id,
        account_id,
        status,
        currency,
        started_at,
        trial_ends_at,
        first_paid_at,
        canceled_at,
        cancel_reason,
        created_at,
        updated_at,
        coalesce(deleted_at, source_deleted_at) as deleted_at,
        coalesce(deleted_at, source_deleted_at) is not null as is_deleted,
        load_seq,
        fetched_at
    from source

),

final as (

    {{ not_quarantined('renamed', 'saas_subscriptions', 'created_date') }}

)

select * from final
