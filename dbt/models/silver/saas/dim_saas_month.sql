with

windows as (

    select
        site,
        max(interval_date) as last_date
    from {{ ref('stg_saas__windows') }}
    where stream = 'subscription_changes'
    group by site

),

begins as (

    select
        site,
        min(valid_from) as first_at
    from {{ ref('fct_subscription_period') }}
    group by site

),

reach as (

    select
        windows.site,
        begins.first_at,
        windows.last_date,
        {{ instant_of_day(add_days('windows.last_date', 1)) }} as reaches_to
    from windows
    inner join begins using (site)
    where begins.first_at < {{ instant_of_day(add_days('windows.last_date', 1)) }}

),

months as (

    {{ months_between('first_at', 'last_date', 'reach', columns='site, reaches_to') }}

),

bounded as (

    select
        *,
        {{ instant_of_day('month_start_date') }} as starts_at,
        {{ instant_of_day(add_months('month_start_date', 1)) }} as ends_at
    from months

),

final as (

    select
        site,
        month_start_date,
        starts_at,
        ends_at,
        least(ends_at, reaches_to) as as_of_at,
        cast({{ wall_clock("least(ends_at, reaches_to) - interval '1' day", "'UTC'") }} as date) as as_of_date,
        ends_at <= reaches_to as is_complete
    from bounded

)

select * from final
