with

source as (

    select * from {{ source('saas', 'invoices') }}
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
        invoice_id,
        account_id,
        subscription_id,
        invoice_number,
        status,
        currency,
        issued_at,
        due_at,
        paid_at,
        period_start as period_starts_at,
        period_end as period_ends_at,
        cast(subtotal as decimal(12, 2)) as subtotal,
        cast(tax as decimal(12, 2)) as tax,
        cast(total as decimal(12, 2)) as total,
        created_at,
        updated_at,
        load_seq,
        fetched_at
    from source

),

final as (

    {{ not_quarantined('renamed', 'saas_invoices', 'created_date') }}

)

select * from final
