with

months as (

    select * from {{ ref('dim_saas_month') }}

),

reach as (

    select
        min(month_start_date) as first_day,
        max(as_of_date) as last_day
    from months

),

final as (

    {{ calendar_years('first_day', 'last_day', 'reach') }}

)

select * from final
