with

months as (

    select * from {{ ref('dim_saas_month') }}

),

account_months as (

    select * from {{ ref('mrt_mrr_monthly') }}

),

summed as (

    select
        site,
        month_start_date,
        sum(previous_mrr) as previous_closing_mrr,
        sum(fx_revaluation) as fx_revaluation,
        sum(opening_mrr) as opening_mrr,
        {% for movement in ['new', 'reactivation', 'expansion', 'contraction', 'churn'] %}
        sum(abs(mrr_change)) filter (where movement = '{{ movement }}') as {{ movement }}_mrr,
        count(*) filter (where movement = '{{ movement }}') as {{ movement }}_accounts,
        {% endfor %}
        count(*) filter (where movement = 'renewal') as renewal_accounts,
        count(*) filter (where movement = 'churn' and is_paused) as paused_accounts,
        count(*) filter (where movement not in ('new', 'reactivation')) as opening_accounts,
        sum(mrr) as closing_mrr,
        count(*) filter (where is_paying) as closing_accounts
    from account_months
    group by site, month_start_date

),

final as (

    select
        site,
        month_start_date,
        months.as_of_date,
        months.is_complete,
        '{{ var("reporting_currency") }}' as currency,
        {{ money('summed.previous_closing_mrr') }} as previous_closing_mrr,
        {{ money('summed.fx_revaluation') }} as fx_revaluation,
        {{ money('summed.opening_mrr') }} as opening_mrr,
        {{ money('summed.new_mrr') }} as new_mrr,
        {{ money('summed.reactivation_mrr') }} as reactivation_mrr,
        {{ money('summed.expansion_mrr') }} as expansion_mrr,
        {{ money('summed.contraction_mrr') }} as contraction_mrr,
        {{ money('summed.churn_mrr') }} as churn_mrr,
        {{ money('summed.closing_mrr') }} as closing_mrr,
        coalesce(summed.opening_accounts, 0) as opening_accounts,
        coalesce(summed.new_accounts, 0) as new_accounts,
        coalesce(summed.reactivation_accounts, 0) as reactivation_accounts,
        coalesce(summed.expansion_accounts, 0) as expansion_accounts,
        coalesce(summed.contraction_accounts, 0) as contraction_accounts,
        coalesce(summed.renewal_accounts, 0) as renewal_accounts,
        coalesce(summed.churn_accounts, 0) as churn_accounts,
        coalesce(summed.paused_accounts, 0) as paused_accounts,
        coalesce(summed.closing_accounts, 0) as closing_accounts
    from months
    left join summed using (site, month_start_date)

)

select * from final
