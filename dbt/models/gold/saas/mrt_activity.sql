{%- set measures = {'daily': 1, 'weekly': 7, 'monthly': 28} -%}

with

windows as (

    select
        site,
        max(interval_date) as last_date
    from {{ ref('stg_saas__windows') }}
    where stream = 'product_events'
    group by site

),

active_days as (

    select distinct
        site,
        user_id,
        event_date
    from {{ ref('fct_product_event') }}
    where user_id is not null

),

spaced as (

    select
        *,
        lead(event_date) over (partition by site, user_id order by event_date) as next_date
    from active_days

),

-- A user counts from an active day until a window's length after it, or until his next active day, which counts anew.
steps as (

    select
        site,
        event_date as day,
        count(*) as began{% for measure in measures %},
        0 as ended_{{ measure }}{% endfor %}
    from spaced
    group by site, event_date
    {% for measure, days in measures.items() %}
    union all
    select
        site,
        least(next_date, {{ add_days('event_date', days) }}) as day,
        0 as began{% for other in measures %},
        {{ 'count(*)' if other == measure else '0' }} as ended_{{ other }}{% endfor %}
    from spaced
    group by site, least(next_date, {{ add_days('event_date', days) }})
    {% endfor %}

),

by_day as (

    select
        site,
        day,
        sum(began) as began{% for measure in measures %},
        sum(ended_{{ measure }}) as ended_{{ measure }}{% endfor %}
    from steps
    group by site, day

),

reach as (

    select
        by_day.site,
        min(by_day.day) as first_date,
        max(windows.last_date) as last_date
    from by_day
    inner join windows using (site)
    where by_day.began > 0
    group by by_day.site

),

days as (

    {{ days_between('first_date', 'last_date', 'reach', columns='site') }}

),

counted as (

    select
        days.site,
        days.day as activity_date{% for measure in measures %},
        sum(coalesce(by_day.began - by_day.ended_{{ measure }}, 0)) over so_far as {{ measure }}{% endfor %}
    from days
    left join by_day using (site, day)
    window so_far as (
        partition by days.site
        order by days.day
        rows between unbounded preceding and current row
    )

),

final as (

    select
        site,
        activity_date,
        cast(daily as bigint) as daily_active_users,
        cast(weekly as bigint) as weekly_active_users,
        cast(monthly as bigint) as monthly_active_users,
        {{ pct_of('daily', 'monthly') }} as stickiness_pct
    from counted

)

select * from final
