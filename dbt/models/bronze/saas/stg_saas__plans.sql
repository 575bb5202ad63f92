with

source as (

    select * from {{ source('saas', 'plans') }}
    where record_id is not null

),

renamed as (

    select
        site,
        record_id,
        interval_date as created_date,
        plan_version_id,
        plan_code,
        plan_name,
        tier,
        version,
        billing_period,
        currency,
        cast(list_price as decimal(12, 2)) as list_price,
        trial_days,
        effective_from,
        created_at,
        updated_at,
        coalesce(deleted_at, source_deleted_at) as deleted_at,
        coalesce(deleted_at, source_deleted_at) is not null as is_deleted,
        load_seq,
        fetched_at
    from source

),

final as (

    {{ not_quarantined('renamed', 'saas_plans', 'created_date') }}

)

select * from final
