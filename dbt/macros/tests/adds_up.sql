{#- The columns of a row add up to a total; a row with a null among them fails. -#}
{% test adds_up(model, columns, total, tolerance=1e-9) %}
    select *
    from {{ model }}
    where coalesce(abs({{ columns | join(' + ') }} - {{ total }}) > {{ tolerance }}, true)
{% endtest %}
