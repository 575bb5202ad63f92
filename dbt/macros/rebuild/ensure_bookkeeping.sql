{#- At the start of a run: the tables that models and staging need beside bronze, where they are missing. The gate
    creates the quarantine tables too, with the same columns; this is for a lake that no gate has seen. -#}
{% macro ensure_bookkeeping() %}
    {%- if execute and flags.WHICH in ('run', 'build') -%}
        {%- set tables = {
            'meta.watermarks': 'model varchar not null, source_table varchar not null, load_seq bigint not null, '
                ~ 'recorded_at timestamp with time zone not null',
            'meta.quarantine_applied': 'model varchar not null, source_table varchar not null, '
                ~ 'site varchar not null, interval_date date not null, fingerprint varchar not null, '
                ~ 'recorded_at timestamp with time zone not null',
        } -%}
        {#- Of the domains that this run builds: another domain's would be made twice, by its own run at the same time. -#}
        {%- set domains = [] -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.unique_id in selected_resources -%}
            {%- do domains.append(node.fqn[2]) -%}
        {%- endfor -%}
        {%- for source in graph.sources.values() if source.schema == 'bronze' and source.source_name in domains -%}
            {%- do tables.update({
                'quarantine.' ~ source.identifier: 'site varchar, interval_date date, record_id varchar, '
                    ~ 'load_seq bigint, rules varchar[], payload json, dag_run_id varchar, snapshot_id bigint, '
                    ~ 'quarantined_at timestamp with time zone'
            }) -%}
        {%- endfor -%}
        {%- set present = tables_in(['meta', 'quarantine']) -%}
        {%- for name, columns in tables.items() if name not in present -%}
            {%- set schema, table = name.split('.') -%}
            {%- do run_query('create schema if not exists ' ~ target.database ~ '.' ~ schema) -%}
            {%- do run_query('create table if not exists ' ~ rebuild__relation(schema, table) ~ ' (' ~ columns ~ ')') -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}


{#- The tables of some schemas of the lake, as schema.table. -#}
{% macro tables_in(schemas) %}
    {%- set query -%}
        select table_schema || '.' || table_name
        from system.information_schema.tables
        where
            table_catalog = '{{ target.database }}'
            and table_schema in ('{{ schemas | join("', '") }}')
    {%- endset -%}
    {{ return(run_query(query).columns[0].values() | list) }}
{% endmacro %}
