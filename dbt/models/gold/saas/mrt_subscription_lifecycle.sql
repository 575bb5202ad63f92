with

reach as (

    select
        site,
        max(as_of_at) as reaches_to
    from {{ ref('dim_saas_month') }}
    group by site

),

periods as (

    select
        periods.*,
        reach.reaches_to,
        lag(periods.state) over by_time as previous_state
    from {{ ref('fct_subscription_period') }} as periods
    inner join reach using (site)
    where periods.valid_from < reach.reaches_to
    window by_time as (partition by periods.site, periods.subscription_id order by periods.valid_from)

),

paid as (

    select
        site,
        subscription_id,
        min(valid_from) as first_paid_at,
        min_by(plan_code, valid_from) as plan_code,
        min_by(billing_period, valid_from) as billing_period
    from periods
    where monthly_amount > 0
    group by site, subscription_id

),

ends as (

    select
        periods.site,
        periods.subscription_id,
        min(periods.valid_from) filter (where periods.state = 'canceled') as canceled_at
    from periods
    inner join paid using (site, subscription_id)
    where periods.valid_from >= paid.first_paid_at
    group by periods.site, periods.subscription_id

),

subscriptions as (

    select
        site,
        subscription_id,
        any_value(account_id) as account_id,
        any_value(currency) as currency,
        any_value(reaches_to) as reaches_to,
        min(valid_from) as started_at,
        min_by(plan_code, valid_from) as first_plan_code,
        min_by(billing_period, valid_from) as first_billing_period,
        min(valid_from) filter (where state = 'trialing') as trial_started_at,
        count(*) filter (where state = 'paused' and coalesce(previous_state, '') <> 'paused') as pauses,
        count(*) filter (where state = 'active' and previous_state = 'canceled') as reactivations,
        max_by(state, valid_from) as last_state,
        case when count(valid_to) = count(*) then max(valid_to) end as last_valid_to
    from periods
    group by site, subscription_id

),

-- Where nothing follows the last period, its end is the deletion of the subscription or of its account.
closed as (

    select
        *,
        case when last_valid_to < reaches_to then last_valid_to end as deleted_at
    from subscriptions

),

dated as (

    select
        closed.*,
        paid.first_paid_at,
        coalesce(paid.plan_code, closed.first_plan_code) as plan_code,
        coalesce(paid.billing_period, closed.first_billing_period) as billing_period,
        case when closed.deleted_at is null then closed.last_state else 'deleted' end as state,
        case when paid.first_paid_at is not null then least(ends.canceled_at, closed.deleted_at) end as churned_at
    from closed
    left join paid using (site, subscription_id)
    left join ends using (site, subscription_id)

),

trials as (

    select
        site,
        subscription_id,
        trial_ends_at
    from {{ ref('stg_saas__subscriptions') }}

),

final as (

    select
        dated.site,
        dated.subscription_id,
        dated.account_id,
        dated.plan_code,
        dated.billing_period,
        dated.currency,
        dated.state,
        dated.started_at,
        dated.trial_started_at,
        case
            when dated.trial_started_at is null then 'none'
            when dated.first_paid_at is not null then 'converted'
            when dated.state = 'trialing' and coalesce(trials.trial_ends_at >= dated.reaches_to, true) then 'running'
            else 'not converted'
        end as trial_outcome,
        dated.first_paid_at,
        case
            when dated.trial_started_at is not null
                then {{ whole_days('dated.trial_started_at', 'dated.first_paid_at') }}
        end as days_to_paid,
        dated.churned_at,
        dated.churned_at is not null as is_churned,
        {{ whole_days('dated.first_paid_at', 'coalesce(dated.churned_at, dated.reaches_to)') }} as tenure_days,
        dated.pauses,
        dated.reactivations
    from dated
    left join trials using (site, subscription_id)

)

select * from final
