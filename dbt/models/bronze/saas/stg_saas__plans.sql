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

quarantined as (

    select * from {{ quarantine('saas_plans') }}

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
