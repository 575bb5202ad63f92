with

source as (

    select * from {{ source('saas', 'accounts') }}
    where record_id is not null

),

renamed as (

    select
        site,
        record_id,
        interval_date as created_date,
        account_id,
        name as account_name,
        country,
        industry,
        time_zone,
        created_at,
        updated_at,
        coalesce(deleted_at, source_deleted_at) as deleted_at,
        coalesce(deleted_at, source_deleted_at) is not null as is_deleted,
        load_seq,
        fetched_at
    from source

),

quarantined as (

    select * from {{ quarantine('saas_accounts') }}

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
