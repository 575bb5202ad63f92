{#- At the end of a run: nothing landed in the scratch database of the process, where it would be lost. Fails as a
    node of the run, so that the results of the models are kept. -#}
{% macro require_empty_memory() %}
    {%- if execute and target.type == 'duckdb' and flags.WHICH in ('run', 'build') -%}
        with

        strays as (

            select schema_name || '.' || table_name as name from duckdb_tables()
            where database_name = 'memory'
            union all
            select schema_name || '.' || view_name as name from duckdb_views()
            where database_name = 'memory' and not internal

        )

        select error(
            'In the scratch database, not in the lake: ' || string_agg(name, ', ')
            || '. A model must be built in the database {{ target.database }}; remove its `database` setting.'
        )
        from strays
        having count(*) > 0
    {%- endif -%}
{% endmacro %}
