{#- Incremental strategy: delete the planned days, insert them anew. A plan without days leaves the table alone. -#}
{% macro get_incremental_rebuild_days_sql(arguments) %}
    {%- set plan = plan_of(model.compiled_code) -%}
    {%- if plan is none -%}
        {%- do exceptions.raise_compiler_error(
            model.name ~ ' uses the strategy rebuild_days but has no plan; write {{ rebuild_line(plan) }} above its SQL.'
        ) -%}
    {%- endif -%}
    {%- if not plan.full and not plan.ranges -%}
        select 1 as nothing_to_rebuild
    {%- else -%}
        {%- set columns = arguments.dest_columns | map(attribute='quoted') | join(', ') -%}
        delete from {{ arguments.target_relation }}
        where {{ in_rebuild(plan, 'site', plan.day) }};

        insert into {{ arguments.target_relation }} ({{ columns }})
        select {{ columns }}
        from {{ arguments.temp_relation }}
    {%- endif -%}
{% endmacro %}


{#- Pre-hook that opens the transaction, so that the model reads one snapshot and becomes visible whole. -#}
{% macro begin_rebuild() %}
    {%- if execute and config.get('materialized') == 'incremental' -%}
        select 1 as begin_rebuild
    {%- endif -%}
{% endmacro %}


{#- Post-hook, in the model's transaction: remembers what the plan has read. -#}
{% macro record_rebuild() %}
    {%- set plan = plan_of(model.compiled_code) if execute else none -%}
    {%- if plan -%}
        {%- if plan.load_seq -%}
        insert into {{ rebuild__relation('meta', 'watermarks') }} (model, source_table, load_seq, recorded_at)
        values
            {%- for table, load_seq in plan.load_seq.items() %}
            ('{{ plan.model }}', '{{ table }}', {{ load_seq }}, {{ rebuild__moment('watermarks') }}){{ ',' if not loop.last }}
            {%- endfor %};
        {%- endif -%}
        {%- if plan.quarantine %}
        insert into {{ rebuild__relation('meta', 'quarantine_applied') }}
            (model, source_table, site, interval_date, fingerprint, recorded_at)
        values
            {%- for table, site, day, fingerprint in plan.quarantine %}
            (
                '{{ plan.model }}', '{{ table }}', {{ rebuild__literal(site) }}, date '{{ day }}', '{{ fingerprint }}',
                {{ rebuild__moment('quarantine_applied') }}
            ){{ ',' if not loop.last }}
            {%- endfor %};
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{#- Now, but after all that the model has recorded: the last record counts, and a clock may have been ahead. -#}
{% macro rebuild__moment(table) -%}
    greatest(now(), (
        select coalesce(max(recorded_at) + interval '1' second, now())
        from {{ rebuild__relation('meta', table) }}
        where model = '{{ model.name }}'
    ))
{%- endmacro %}
