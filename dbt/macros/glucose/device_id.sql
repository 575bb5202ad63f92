{#- Key of dim_device; null for a record that names no device. -#}
{% macro device_id(site, device_name) -%}
    {{ text_hash(site ~ " || '|' || " ~ device_name) }}
{%- endmacro %}
