with

months as (

    select * from {{ ref('dim_saas_month') }}

),

reach as (

    select
        site,
        max(as_of_at) as reaches_to,
        max(as_of_date) as last_date
    from months
    group by site

),

periods as (

    select
        periods.*,
        least(periods.valid_to, reach.reaches_to) as seen_to
    from {{ ref('fct_subscription_period') }} as periods
    inner join reach using (site)
    where periods.state <> 'canceled' and periods.valid_from < reach.reaches_to

),

touched as (

    {{ months_between(
        'valid_from',
        'seen_to',
        'periods',
        columns='site, subscription_id, account_id, valid_from, valid_to, state, plan_version_id, plan_code, '
        ~ 'billing_period, quantity, currency, monthly_amount'
    ) }}

),

held as (

    select
        touched.*,
        months.as_of_at,
        months.as_of_date,
        months.is_complete
    from touched
    inner join months using (site, month_start_date)
    where
        touched.valid_from < months.as_of_at
        and (touched.valid_to is null or touched.valid_to >= months.as_of_at)

),

rates as (

    select * from {{ ref('fct_exchange_rate') }}

),

final as (

    select
        held.site,
        held.subscription_id,
        held.month_start_date,
        held.account_id,
        held.as_of_at,
        held.as_of_date,
        held.is_complete,
        held.state,
        held.plan_version_id,
        held.plan_code,
        held.billing_period,
        held.quantity,
        held.currency,
        held.monthly_amount,
        rates.exchange_rate,
        {{ converted('held.monthly_amount', 'rates.exchange_rate') }} as mrr
    from held
    left join rates
        on
            held.site = rates.site
            and held.currency = rates.currency
            and held.as_of_date = rates.rate_date

)

select * from final
