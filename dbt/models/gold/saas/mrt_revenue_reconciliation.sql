with

months as (

    select * from {{ ref('dim_saas_month') }}

),

lines as (

    select
        *,
        cast(amount * 100 as bigint) as cents,
        {{ epoch_ms_of('period_starts_at') }} as starts_ms,
        {{ epoch_ms_of('period_ends_at') }} - {{ epoch_ms_of('period_starts_at') }} as length_ms
    from {{ ref('fct_invoice_line') }}
    where is_billed

),

issued as (

    select
        site,
        {{ month_of('issued_date') }} as month_start_date,
        currency,
        sum(amount) filter (where is_recurring and line_type <> 'refund') as invoiced,
        sum(-amount) filter (where line_type = 'refund') as refunded,
        sum(amount) filter (where line_type = 'one_off') as one_off,
        sum(amount) filter (where is_recurring and status = 'uncollectible') as uncollectible,
        cast(0 as decimal(18, 2)) as earned
    from lines
    group by site, {{ month_of('issued_date') }}, currency

),

spread as (

    {{ months_between(
        'period_starts_at',
        "period_ends_at - interval '1' millisecond",
        'lines',
        columns='site, currency, cents, starts_ms, length_ms, is_recurring'
    ) }}
    where is_recurring and length_ms > 0

),

-- Of an amount, what has been earned by the end of the month less what had been by its begin: no cent is lost.
shares as (

    select
        spread.*,
        least(greatest({{ epoch_ms_of('months.starts_at') }} - spread.starts_ms, 0), spread.length_ms) as ms_before,
        least(greatest({{ epoch_ms_of('months.ends_at') }} - spread.starts_ms, 0), spread.length_ms) as ms_after
    from spread
    inner join months using (site, month_start_date)

),

earned_by_month as (

    select
        site,
        month_start_date,
        currency,
        {{ share_of_cents('cents', 'ms_after', 'length_ms') }}
        - {{ share_of_cents('cents', 'ms_before', 'length_ms') }} as earned_cents
    from shares
    union all
    select
        site,
        {{ month_of('issued_date') }} as month_start_date,
        currency,
        cents as earned_cents
    from lines
    where is_recurring and coalesce(length_ms, 0) <= 0

),

earned as (

    select
        site,
        month_start_date,
        currency,
        cast(0 as decimal(18, 2)) as invoiced,
        cast(0 as decimal(18, 2)) as refunded,
        cast(0 as decimal(18, 2)) as one_off,
        cast(0 as decimal(18, 2)) as uncollectible,
        cast(sum(earned_cents) as decimal(28, 0)) * cast(0.01 as decimal(3, 2)) as earned
    from earned_by_month
    group by site, month_start_date, currency

),

by_currency as (

    select * from issued
    union all
    select * from earned

),

-- Of the whole month of a currency, so that a cent is rounded once.
sums as (

    select
        site,
        month_start_date,
        currency{% for amount in ['invoiced', 'refunded', 'one_off', 'uncollectible', 'earned'] %},
        {{ money('sum(' ~ amount ~ ')') }} as {{ amount }}{% endfor %}
    from by_currency
    group by site, month_start_date, currency

),

in_reporting_currency as (

    select
        sums.site,
        sums.month_start_date{% for amount in ['invoiced', 'refunded', 'one_off', 'uncollectible', 'earned'] %},
        sum({{ converted('sums.' ~ amount, 'rates.exchange_rate') }}) as {{ amount }}{% endfor %}
    from sums
    inner join months using (site, month_start_date)
    left join {{ ref('fct_exchange_rate') }} as rates
        on
            sums.site = rates.site
            and sums.currency = rates.currency
            and months.as_of_date = rates.rate_date
    group by sums.site, sums.month_start_date

),

movements as (

    select * from {{ ref('mrt_mrr_movements') }}

),

final as (

    select
        movements.site,
        movements.month_start_date,
        movements.as_of_date,
        movements.is_complete,
        movements.currency,
        {{ money('amounts.invoiced') }} as invoiced,
        {{ money('amounts.refunded') }} as refunded,
        {{ money('coalesce(amounts.invoiced, 0) - coalesce(amounts.refunded, 0)') }} as invoiced_net,
        {{ money('amounts.one_off') }} as one_off,
        {{ money('amounts.uncollectible') }} as uncollectible,
        {{ money('amounts.earned') }} as earned,
        movements.closing_mrr as mrr,
        {{ money('coalesce(amounts.earned, 0) - movements.closing_mrr') }} as difference,
        {{ pct_of('coalesce(amounts.earned, 0)', 'movements.closing_mrr') }} as earned_pct_of_mrr
    from movements
    left join in_reporting_currency as amounts using (site, month_start_date)

)

select * from final
