{#- The rows of a bronze table that a gate has set aside. -#}
{% macro quarantine(table) -%}
    {{ rebuild__relation('quarantine', table) }}
{%- endmacro %}


{#- The rows of a CTE over a bronze table that no gate has set aside; `day` is what it calls `interval_date`. -#}
{% macro not_quarantined(records, table, day) -%}
    select {{ records }}.*
    from {{ records }}
    left join {{ quarantine(table) }} as quarantined
        on
            {{ records }}.site = quarantined.site
            and {{ records }}.{{ day }} = quarantined.interval_date
            and {{ records }}.record_id = quarantined.record_id
            and {{ records }}.load_seq = quarantined.load_seq
    where quarantined.record_id is null
{%- endmacro %}
