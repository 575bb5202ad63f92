{#- At the start of a run: every bronze table that the selected models read is there. -#}
{% macro require_bronze() %}
    {%- if execute and flags.WHICH in ('run', 'build') -%}
        {%- set wanted = [] -%}
        {%- for node in graph.nodes.values() if node.unique_id in selected_resources -%}
            {%- for parent in node.depends_on.nodes if parent in graph.sources -%}
                {%- do wanted.append(graph.sources[parent].schema ~ '.' ~ graph.sources[parent].identifier) -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- if wanted -%}
            {%- set missing = wanted | unique | reject('in', tables_in(['bronze'])) | sort -%}
            {%- if missing -%}
                {%- do exceptions.raise_compiler_error(
                    'The lake has no ' ~ missing | join(', ') ~ '. dbt builds on what ingest has landed: run the '
                    ~ 'ingest of this source first, for example `lake run nightscout --from DATE --to DATE`.'
                ) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}
