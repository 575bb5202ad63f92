with

lines as (

    select * from {{ ref('stg_saas__invoice_lines') }}

),

invoices as (

    select * from {{ ref('fct_invoice') }}

),

final as (

    select
        lines.site,
        lines.invoice_line_id,
        lines.invoice_id,
        invoices.account_id,
        invoices.subscription_id,
        invoices.status,
        invoices.is_billed,
        invoices.issued_at,
        invoices.issued_date,
        lines.line_type,
        lines.line_type in ('subscription', 'proration', 'discount', 'refund') as is_recurring,
        lines.plan_version_id,
        cast(lines.quantity as integer) as quantity,
        invoices.currency,
        lines.unit_amount,
        lines.amount,
        lines.period_starts_at,
        lines.period_ends_at
    from lines
    inner join invoices using (site, invoice_id)

)

select * from final
