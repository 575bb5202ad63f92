with

subscriptions as (

    select
        subscriptions.site,
        subscriptions.subscription_id,
        subscriptions.account_id,
        subscriptions.currency,
        least(subscriptions.deleted_at, accounts.deleted_at) as deleted_at
    from {{ ref('stg_saas__subscriptions') }} as subscriptions
    left join {{ ref('stg_saas__accounts') }} as accounts using (site, account_id)

),

plans as (

    select
        site,
        plan_version_id,
        plan_code
    from {{ ref('stg_saas__plans') }}

),

changes as (

    select
        *,
        last_value(
            case
                when change_type = 'start_trial' then 'trialing'
                when change_type in ('start', 'convert', 'resume', 'reactivate') then 'active'
                when change_type = 'pause' then 'paused'
                when change_type = 'cancel' then 'canceled'
            end ignore nulls
        ) over (
            partition by site, subscription_id
            order by effective_at, change_id
            rows between unbounded preceding and current row
        ) as stated,
        row_number() over (
            partition by site, subscription_id, effective_at
            order by change_id desc
        ) as place_of_instant
    from {{ ref('stg_saas__subscription_changes') }}

),

periods as (

    select
        *,
        coalesce(stated, 'active') as state,
        lead(effective_at) over (partition by site, subscription_id order by effective_at) as next_at
    from changes
    where place_of_instant = 1

),

final as (

    select
        periods.site,
        periods.subscription_id,
        subscriptions.account_id,
        periods.change_id,
        periods.change_type,
        periods.effective_at as valid_from,
        least(periods.next_at, subscriptions.deleted_at) as valid_to,
        least(periods.next_at, subscriptions.deleted_at) is null as is_current,
        periods.state,
        periods.plan_version_id,
        plans.plan_code,
        periods.billing_period,
        cast(periods.quantity as integer) as quantity,
        subscriptions.currency,
        case
            when periods.state = 'active'
                then
                    cast(
                        {{ quotient(
                            'coalesce(periods.amount, 0)', "case periods.billing_period when 'year' then 12 else 1 end", 2
                        ) }} as decimal(18, 2)
                    )
            else 0
        end as monthly_amount
    from periods
    inner join subscriptions using (site, subscription_id)
    left join plans using (site, plan_version_id)
    where subscriptions.deleted_at is null or periods.effective_at < subscriptions.deleted_at

)

select * from final
