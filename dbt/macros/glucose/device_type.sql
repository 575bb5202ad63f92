{#- What a device string names, by the words that uploaders put into it. -#}
{% macro device_type(device_name) -%}
    case
        when lower({{ device_name }}) similar to '.*(dexcom|libre|medtronic.*sensor|eversense|g[4567]|sensor|cgm).*' then 'cgm'
        when lower({{ device_name }}) similar to '.*(omnipod|medtronic|pump|dana|combo|tandem|insight).*' then 'pump'
        when lower({{ device_name }}) similar to '.*(loop|openaps|androidaps|aaps|trio).*' then 'loop'
        when lower({{ device_name }}) similar to '.*(xdrip|share|spike|phone|uploader|nightscout|bridge).*' then 'uploader'
        else 'unknown'
    end
{%- endmacro %}
