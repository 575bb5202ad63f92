{{
    config(
        materialized='incremental',
        incremental_strategy='rebuild_days',
        partitioned_by=['year(event_date)', 'month(event_date)'],
    )
}}

{%- set plan = rebuild_plan(day='event_date', reads={'saas_product_events': none}) %}

{{ rebuild_line(plan) }}

with

events as (

    select * from {{ ref('stg_saas__product_events') }}
    where {{ in_rebuild(plan, 'site', 'event_date') }}

),

final as (

    select
        site,
        event_id,
        account_id,
        user_id,
        event_name,
        occurred_at,
        event_date,
        created_at as received_at,
        {{ epoch_ms_of('created_at') }} - {{ epoch_ms_of('occurred_at') }} > 24 * 60 * 60 * 1000 as is_late
    from events

)

select * from final
