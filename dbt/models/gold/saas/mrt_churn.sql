with

movements as (

    select * from {{ ref('mrt_mrr_movements') }}

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
            as net_revenue_retention_pct
    from movements

)

select * from final
