{#- What a row ends with is what the next one begins with; the first begins with nothing. -#}
{% test carried_over(model, ends_with, begins_with, by, order_by) %}
    select *
    from (
        select
            *,
            coalesce(lag({{ ends_with }}) over (partition by {{ by | join(', ') }} order by {{ order_by }}), 0) as expected
        from {{ model }}
    ) as steps
    where {{ begins_with }} is distinct from expected
{% endtest %}
