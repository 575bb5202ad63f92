{%- set streams = [
    'accounts',
    'users',
    'plans',
    'subscriptions',
    'subscription_changes',
    'invoices',
    'invoice_lines',
    'product_events',
    'exchange_rates',
] -%}

with

{% for stream in streams %}
{{ stream }} as (

    select
        '{{ stream }}' as stream,
        site,
        interval_date,
        load_seq,
        window_records,
        fetched_at
    from {{ source('saas', stream) }}
    where record_id is null

),

{% endfor %}
final as (

    {% for stream in streams %}
    select * from {{ stream }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select * from final
