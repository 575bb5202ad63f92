{#- At the start of a run: every bronze table that the selected models read is there. -#}
{% macro require_bronze() %}
    {%- if execute and flags.WHICH in ('run', 'build') -%}
        {%- set wanted = {} -%}
        {%- for node in graph.nodes.values() if node.unique_id in selected_resources -%}
            {%- for parent in node.depends_on.nodes if parent in graph.sources -%}
                {%- set origin = graph.sources[parent] -%}
                {%- do wanted.update({origin.schema ~ "." ~ origin.identifier: origin.source_name}) -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- if wanted -%}
            {%- set missing = wanted | reject('in', tables_in(['bronze'])) | sort -%}
            {%- if missing -%}
                {%- do exceptions.raise_compiler_error(
                    'The lake has no ' ~ missing | join(', ') ~ '. dbt builds on what ingest has landed: run the '
                    ~ 'ingest of this source first, for example `lake run ' ~ wanted[missing[0]]
                    ~ ' --from DATE --to DATE`, or build one domain with `--select path:models/*/DOMAIN`.'
                ) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}
