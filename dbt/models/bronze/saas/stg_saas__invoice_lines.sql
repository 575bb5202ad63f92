with

source as (

    select * from {{ source('saas', 'invoice_lines') }}
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
        invoice_line_id,
        invoice_id,
        line_type,
        plan_version_id,
        quantity,
        cast(unit_amount as decimal(12, 2)) as unit_amount,
        cast(amount as decimal(12, 2)) as amount,
        period_start as period_starts_at,
        period_end as period_ends_at,
        created_at,
        updated_at,
        load_seq,
        fetched_at
    from source

),

quarantined as (

    select * from {{ quarantine('saas_invoice_lines') }}

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
