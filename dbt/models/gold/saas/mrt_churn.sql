with

movements as (

    select * from {{ ref('mrt_mrr_movements') }}

),

account_months as (

    select * from {{ ref('mrt_mrr_monthly') }}

),

-- What accounts paid twelve months before, at the rates of this month's end.
year_before as (

    select
        subscriptions.site,
        subscriptions.account_id,
        months.month_start_date,
        sum({{ converted('subscriptions.monthly_amount', 'rates.exchange_rate') }}) as mrr
    from {{ ref('fct_subscription_month') }} as subscriptions
    inner join {{ ref('dim_saas_month') }} as months
        on
            subscriptions.site = months.site
            and {{ add_months('subscriptions.month_start_date', 12) }} = months.month_start_date
    left join {{ ref('fct_exchange_rate') }} as rates
        on
            subscriptions.site = rates.site
            and subscriptions.currency = rates.currency
            and months.as_of_date = rates.rate_date
    where subscriptions.monthly_amount > 0
    group by subscriptions.site, subscriptions.account_id, months.month_start_date

),

over_a_year as (

    select
        site,
        month_start_date,
        sum(year_before.mrr) as year_opening_mrr,
        sum(coalesce(account_months.mrr, 0)) as year_retained_mrr,
        sum(least(coalesce(account_months.mrr, 0), year_before.mrr)) as year_kept_mrr
    from year_before
    left join account_months using (site, account_id, month_start_date)
    group by site, month_start_date

),

final as (

    select
        site,
        month_start_date,
        as_of_date,
        is_complete,
        opening_accounts,
        churn_accounts,
        paused_accounts,
        {{ pct_of('churn_accounts', 'opening_accounts') }} as logo_churn_pct,
        {{ pct_of('churn_accounts - paused_accounts', 'opening_accounts') }} as logo_churn_without_pauses_pct,
        {{ pct_of('opening_accounts - churn_accounts', 'opening_accounts') }} as logo_retention_pct,
        currency,
        opening_mrr,
        churn_mrr,
        contraction_mrr,
        expansion_mrr,
        reactivation_mrr,
        {{ pct_of('churn_mrr + contraction_mrr', 'opening_mrr') }} as gross_revenue_churn_pct,
        {{ pct_of('churn_mrr + contraction_mrr - expansion_mrr', 'opening_mrr') }} as net_revenue_churn_pct,
        {{ pct_of('opening_mrr - churn_mrr - contraction_mrr', 'opening_mrr') }} as gross_revenue_retention_pct,
        {{ pct_of('opening_mrr - churn_mrr - contraction_mrr + expansion_mrr', 'opening_mrr') }}
            as net_revenue_retention_pct,
        {{ pct_of('year_kept_mrr', 'year_opening_mrr') }} as gross_revenue_retention_12m_pct,
        {{ pct_of('year_retained_mrr', 'year_opening_mrr') }} as net_revenue_retention_12m_pct
    from movements
    left join over_a_year using (site, month_start_date)

)

select * from final
