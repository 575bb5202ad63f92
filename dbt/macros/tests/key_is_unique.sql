{#- The key that the model states in config.meta.key names one row. -#}
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
    select
        {{ key | join(', ') }},
        count(*) as rows_with_key
    from {{ model }}
    group by {{ key | join(', ') }}
    having count(*) > 1
{% endtest %}
