with

plans as (

    select * from {{ ref('stg_saas__plans') }}

),

final as (

    select
        site,
        plan_version_id,
        plan_code,
        plan_name,
        tier,
        billing_period,
        currency,
        version,
        list_price,
        cast(
            {{ quotient('list_price', "case billing_period when 'year' then 12 else 1 end", 2) }} as decimal(18, 2)
        ) as monthly_list_price,
        trial_days,
        effective_from as valid_from,
        lead(effective_from) over versions as valid_to,
        lead(effective_from) over versions is null as is_current,
        is_deleted
    from plans
    window versions as (
        partition by site, plan_code, billing_period, currency
        order by effective_from, version, plan_version_id
    )

)

select * from final
