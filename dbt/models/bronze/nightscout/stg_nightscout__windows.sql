with

{% for stream in ['entries', 'treatments', 'devicestatus', 'profile'] %}
{{ stream }} as (

    select
        '{{ stream }}' as stream,
        site,
        interval_date,
        load_seq,
        window_records,
        fetched_at,
        site_time_zone as time_zone,
        site_units
    from {{ source('nightscout', stream) }}
    where record_id is null

),

quarantined_{{ stream }} as (

    select
        site,
        interval_date,
        load_seq,
        count(*) as quarantined_records
    from {{ quarantine('nightscout_' ~ stream) }}
    group by site, interval_date, load_seq

),

judged_{{ stream }} as (

    select
        {{ stream }}.*,
        coalesce(quarantined_{{ stream }}.quarantined_records, 0) as quarantined_records
    from {{ stream }}
    left join quarantined_{{ stream }} using (site, interval_date, load_seq)

),

{% endfor %}
final as (

    select * from judged_entries
    union all
    select * from judged_treatments
    union all
    select * from judged_devicestatus
    union all
    select * from judged_profile

)

select * from final
