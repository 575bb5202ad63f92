with

invoices as (

    select * from {{ ref('stg_saas__invoices') }}

),

lines as (

    select
        site,
        invoice_id,
        count(*) as lines,
        sum(amount) as lines_total,
        sum(amount) filter (where line_type = 'refund') as refunded
    from {{ ref('stg_saas__invoice_lines') }}
    group by site, invoice_id

),

final as (

    select
        invoices.site,
        invoices.invoice_id,
        invoices.account_id,
        invoices.subscription_id,
        invoices.invoice_number,
        invoices.status,
        invoices.status not in ('draft', 'void') as is_billed,
        invoices.currency,
        invoices.issued_at,
        cast({{ wall_clock('invoices.issued_at', "'UTC'") }} as date) as issued_date,
        invoices.due_at,
        invoices.paid_at,
        invoices.period_starts_at,
        invoices.period_ends_at,
        invoices.subtotal,
        invoices.tax,
        invoices.total,
        coalesce(lines.lines, 0) as lines,
        {{ money('lines.lines_total') }} as lines_total,
        {{ money('-lines.refunded') }} as refunded
    from invoices
    left join lines using (site, invoice_id)

)

select * from final
