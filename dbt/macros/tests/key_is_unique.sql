{#- The key that the model states in config.meta.key names one row, and the table's statistics count what a scan finds:
    known bugs of DuckLake show there first (rows that came back, negative counts). -#}
{% test key_is_unique(model) %}
    {%- set key = [] -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name == model.identifier -%}
            {%- do key.extend(node.config.meta.key) -%}
        {%- endfor -%}
        {%- if not key -%}
            {%- do exceptions.raise_compiler_error(model.identifier ~ ' states no key in config.meta.') -%}
        {%- endif -%}
    {%- endif -%}
    with

    scanned as (

        select
            {{ key | join(', ') }},
            count(*) as rows_with_key
        from {{ model }}
        group by {{ key | join(', ') }}

    ),

    counted as (

        select count(*) as table_rows from {{ model }}

    )

    select
        concat_ws(', ', {% for column in key %}cast({{ column }} as varchar){{ ', ' if not loop.last }}{% endfor %}) as what,
        rows_with_key as found,
        cast(1 as bigint) as expected
    from scanned
    where rows_with_key > 1
    union all
    select
        'rows in all' as what,
        counted.table_rows as found,
        totals.scanned_rows as expected
    from counted
    cross join (select cast(coalesce(sum(rows_with_key), 0) as bigint) as scanned_rows from scanned) as totals
    where counted.table_rows <> totals.scanned_rows
{% endtest %}
