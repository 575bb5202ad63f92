with

months as (

    select * from {{ ref('dim_saas_month') }}

),

account_months as (

    select * from {{ ref('mrt_mrr_monthly') }}

),

starts as (

    select
        site,
        account_id,
        cohort_month_date,
        as_of_date as cohort_as_of_date,
        mrr
    from account_months
    where movement = 'new'

),

cohorts as (

    select
        site,
        cohort_month_date,
        count(*) as cohort_accounts,
        sum(mrr) as cohort_mrr
    from starts
    group by site, cohort_month_date

),

-- Every month at the rates of the cohort's first month: what customers pay, not what currencies do.
held as (

    select
        subscriptions.site,
        starts.cohort_month_date,
        subscriptions.month_start_date,
        count(distinct subscriptions.account_id) as retained_accounts,
        sum({{ converted('subscriptions.monthly_amount', 'rates.exchange_rate') }}) as retained_mrr
    from {{ ref('fct_subscription_month') }} as subscriptions
    inner join starts using (site, account_id)
    left join {{ ref('fct_exchange_rate') }} as rates
        on
            subscriptions.site = rates.site
            and subscriptions.currency = rates.currency
            and starts.cohort_as_of_date = rates.rate_date
    where subscriptions.monthly_amount > 0
    group by subscriptions.site, starts.cohort_month_date, subscriptions.month_start_date

),

spine as (

    select
        cohorts.*,
        months.month_start_date,
        months.is_complete
    from cohorts
    inner join months
        on cohorts.site = months.site and cohorts.cohort_month_date <= months.month_start_date

),

final as (

    select
        site,
        cohort_month_date,
        {{ months_from('cohort_month_date', 'month_start_date') }} as months_since_start,
        month_start_date,
        spine.is_complete,
        '{{ var("reporting_currency") }}' as currency,
        spine.cohort_accounts,
        coalesce(held.retained_accounts, 0) as retained_accounts,
        {{ pct_of('coalesce(held.retained_accounts, 0)', 'spine.cohort_accounts') }} as logo_retention_pct,
        {{ money('spine.cohort_mrr') }} as cohort_mrr,
        {{ money('held.retained_mrr') }} as retained_mrr,
        {{ pct_of('coalesce(held.retained_mrr, 0)', 'spine.cohort_mrr') }} as revenue_retention_pct
    from spine
    left join held using (site, cohort_month_date, month_start_date)

)

select * from final
