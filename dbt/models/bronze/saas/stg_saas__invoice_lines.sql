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

final as (

    {{ not_quarantined('renamed', 'saas_invoice_lines', 'created_date') }}

)

select * from final
