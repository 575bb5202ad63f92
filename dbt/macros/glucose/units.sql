{#- mg/dL in one mmol/L of glucose, as Nightscout itself converts. -#}
{% macro mg_dl_per_mmol_l() -%}
    18.018018018
{%- endmacro %}


{#- A value in mg/dL, given the unit that it was written in. -#}
{% macro as_mg_dl(value, units) -%}
    case when lower({{ units }}) like 'mmol%' then {{ value }} * {{ mg_dl_per_mmol_l() }} else {{ value }} end
{%- endmacro %}


{% macro as_mmol_l(mg_dl) -%}
    round({{ mg_dl }} / {{ mg_dl_per_mmol_l() }}, 2)
{%- endmacro %}
