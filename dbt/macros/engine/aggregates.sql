{#- Linear interpolation between the two nearest values (R's type 7), as iglu and numpy compute quantiles. -#}
{% macro quantile(expression, share) -%}
    {{ return(adapter.dispatch('quantile')(expression, share)) }}
{%- endmacro %}

{% macro duckdb__quantile(expression, share) -%}
    quantile_cont({{ expression }}, {{ share }})
{%- endmacro %}


{#- One text for a set of rows, whatever their order; equal sets give equal texts. -#}
{% macro set_hash(text) -%}
    {{ return(adapter.dispatch('set_hash')(text)) }}
{%- endmacro %}

{% macro duckdb__set_hash(text) -%}
    md5(string_agg({{ text }}, chr(10) order by {{ text }}))
{%- endmacro %}


{% macro text_hash(text) -%}
    {{ return(adapter.dispatch('text_hash')(text)) }}
{%- endmacro %}

{% macro duckdb__text_hash(text) -%}
    md5({{ text }})
{%- endmacro %}


{#- The product of the factors so far, zero included; `over` is the window. -#}
{% macro running_product(factor, over) -%}
    {{ return(adapter.dispatch('running_product')(factor, over)) }}
{%- endmacro %}

{% macro duckdb__running_product(factor, over) -%}
    product({{ factor }}) over {{ over }}
{%- endmacro %}
