with

subscriptions as (

    select * from {{ ref('mrt_subscription_lifecycle') }}
    where first_paid_at is not null and plan_code is not null

),

by_day as (

    select
        site,
        plan_code,
        tenure_days,
        count(*) filter (where is_churned) as churned,
        count(*) filter (where not is_churned) as censored
    from subscriptions
    group by site, plan_code, tenure_days

),

exposed as (

    select
        *,
        cast(sum(churned + censored) over (
            partition by site, plan_code
            order by tenure_days
            rows between current row and unbounded following
        ) as bigint) as at_risk
    from by_day

),

events as (

    select * from exposed
    where churned > 0

),

estimated as (

    select
        *,
        {{ running_product('1.0 - cast(churned as double) / at_risk', over='so_far') }} as survival,
        sum(case when at_risk > churned then cast(churned as double) / (at_risk * (at_risk - churned)) end)
            over so_far as greenwood
    from events
    window so_far as (
        partition by site, plan_code
        order by tenure_days
        rows between unbounded preceding and current row
    )

),

final as (

    select
        site,
        plan_code,
        tenure_days,
        at_risk,
        churned,
        round(survival, 8) as survival,
        round(survival * sqrt(coalesce(greenwood, 0)), 8) as standard_error
    from estimated

)

select * from final
