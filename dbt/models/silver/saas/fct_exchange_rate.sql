with

quotes as (

    select
        site,
        currency,
        rate_date,
        rate_to_usd
    from {{ ref('stg_saas__exchange_rates') }}

),

days as (

    select distinct
        site,
        rate_date
    from quotes

),

-- The dollar is what the rates are in, and need not be quoted.
with_dollar as (

    select * from quotes
    where currency <> 'USD'
    union all
    select
        site,
        'USD' as currency,
        rate_date,
        cast(1 as decimal(18, 8)) as rate_to_usd
    from days

),

windows as (

    select
        site,
        max(interval_date) as last_date
    from {{ ref('stg_saas__windows') }}
    group by site

),

holding as (

    select
        with_dollar.*,
        coalesce(
            {{ add_days('lead(with_dollar.rate_date) over of_currency', -1) }},
            greatest(windows.last_date, with_dollar.rate_date)
        ) as last_day
    from with_dollar
    left join windows using (site)
    window of_currency as (partition by with_dollar.site, with_dollar.currency order by with_dollar.rate_date)

),

carried as (

    {{ days_between('rate_date', 'last_day', 'holding', columns='site, currency, rate_date, rate_to_usd') }}

),

reporting as (

    select * from carried
    where currency = '{{ var("reporting_currency") }}'

),

final as (

    select
        carried.site,
        carried.currency,
        carried.day as rate_date,
        cast({{ quotient('carried.rate_to_usd', 'reporting.rate_to_usd', 8) }} as decimal(18, 8)) as exchange_rate,
        '{{ var("reporting_currency") }}' as reporting_currency,
        carried.rate_date as quoted_date
    from carried
    inner join reporting using (site, day)

)

select * from final
