with

windows as (

    select interval_date from {{ ref('stg_nightscout__windows') }}
    where stream <> 'profile'

),

reach as (

    select
        {{ add_days('min(interval_date)', -1) }} as first_local_day,
        {{ add_days('max(interval_date)', 1) }} as last_local_day
    from windows

),

final as (

    {{ calendar_years('first_local_day', 'last_local_day', 'reach') }}

)

select * from final
