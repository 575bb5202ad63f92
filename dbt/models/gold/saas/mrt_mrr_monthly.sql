with

months as (

    select * from {{ ref('dim_saas_month') }}

),

subscriptions as (

    select * from {{ ref('fct_subscription_month') }}

),

paying as (

    select * from subscriptions
    where monthly_amount > 0

),

paused as (

    select distinct
        site,
        account_id,
        month_start_date
    from subscriptions
    where state = 'paused'

),

closing as (

    select
        site,
        account_id,
        month_start_date,
        count(*) as subscriptions,
        sum(mrr) as mrr
    from paying
    group by site, account_id, month_start_date

),

firsts as (

    select
        site,
        account_id,
        min(month_start_date) as cohort_month_date
    from closing
    group by site, account_id

),

-- What the month before ended with, at the rates of this month's end.
carried as (

    select
        paying.site,
        paying.account_id,
        months.month_start_date,
        paying.mrr as previous_mrr,
        {{ converted('paying.monthly_amount', 'rates.exchange_rate') }} as opening_mrr
    from paying
    inner join months
        on
            paying.site = months.site
            and {{ add_months('paying.month_start_date', 1) }} = months.month_start_date
    left join {{ ref('fct_exchange_rate') }} as rates
        on
            paying.site = rates.site
            and paying.currency = rates.currency
            and months.as_of_date = rates.rate_date

),

opening as (

    select
        site,
        account_id,
        month_start_date,
        sum(previous_mrr) as previous_mrr,
        sum(opening_mrr) as opening_mrr
    from carried
    group by site, account_id, month_start_date

),

account_months as (

    select
        site,
        account_id,
        month_start_date,
        closing.account_id is not null as is_paying,
        opening.account_id is not null as was_paying,
        coalesce(closing.subscriptions, 0) as subscriptions,
        {{ money('opening.previous_mrr') }} as previous_mrr,
        {{ money('opening.opening_mrr') }} as opening_mrr,
        {{ money('closing.mrr') }} as mrr
    from closing
    full outer join opening using (site, account_id, month_start_date)

),

final as (

    select
        account_months.site,
        account_months.account_id,
        account_months.month_start_date,
        months.as_of_date,
        months.is_complete,
        accounts.country,
        accounts.industry,
        firsts.cohort_month_date,
        {{ months_from('firsts.cohort_month_date', 'account_months.month_start_date') }} as months_since_start,
        case
            when not account_months.was_paying and account_months.month_start_date = firsts.cohort_month_date then 'new'
            when not account_months.was_paying then 'reactivation'
            when not account_months.is_paying then 'churn'
            when account_months.mrr > account_months.opening_mrr then 'expansion'
            when account_months.mrr < account_months.opening_mrr then 'contraction'
            else 'renewal'
        end as movement,
        paused.account_id is not null and not account_months.is_paying as is_paused,
        account_months.is_paying,
        account_months.subscriptions,
        '{{ var("reporting_currency") }}' as currency,
        account_months.previous_mrr,
        {{ money('account_months.opening_mrr - account_months.previous_mrr') }} as fx_revaluation,
        account_months.opening_mrr,
        {{ money('account_months.mrr - account_months.opening_mrr') }} as mrr_change,
        account_months.mrr
    from account_months
    inner join months using (site, month_start_date)
    inner join firsts using (site, account_id)
    left join paused using (site, account_id, month_start_date)
    left join {{ ref('dim_account') }} as accounts using (site, account_id)

)

select * from final
