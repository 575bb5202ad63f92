{#-
    The measures of glycaemia, as iglu defines them: limits of "below" and "above" are not included, limits of
    "in range" are. Averages are taken in the order given, so that the same rows give the same last digit.
-#}
{% macro glycaemia(glucose, in_order_of) -%}
    count(*) as readings,
    avg({{ glucose }} order by {{ in_order_of }}) as mean_mg_dl,
    stddev_samp({{ glucose }} order by {{ in_order_of }}) as sd_mg_dl,
    {{ share_pct(glucose ~ ' < 54') }} as below_54_pct,
    {{ share_pct(glucose ~ ' < 70') }} as below_70_pct,
    {{ share_pct(glucose ~ ' between 70 and 180') }} as in_range_70_180_pct,
    {{ share_pct(glucose ~ ' between 70 and 140') }} as in_range_70_140_pct,
    {{ share_pct(glucose ~ ' > 180') }} as above_180_pct,
    {{ share_pct(glucose ~ ' > 250') }} as above_250_pct,
    avg({{ risk(glucose, 'low') }} order by {{ in_order_of }}) as lbgi,
    avg({{ risk(glucose, 'high') }} order by {{ in_order_of }}) as hbgi,
    {{ quantile(glucose, 0.5) }} as median_mg_dl,
    {{ quantile(glucose, 0.75) }} - {{ quantile(glucose, 0.25) }} as iqr_mg_dl
{%- endmacro %}


{% macro share_pct(condition) -%}
    100.0 * count(*) filter (where {{ condition }}) / count(*)
{%- endmacro %}


{#- Kovatchev's symmetrised scale: below 0 on the low side, above it on the high side. -#}
{% macro risk(glucose, side) -%}
    {%- set scaled = '1.509 * (power(ln(greatest(' ~ glucose ~ ', 1)), 1.084) - 5.381)' -%}
    10 * power({{ 'least' if side == 'low' else 'greatest' }}({{ scaled }}, 0), 2)
{%- endmacro %}


{% macro gmi_pct(mean_mg_dl) -%}
    3.31 + 0.02392 * {{ mean_mg_dl }}
{%- endmacro %}


{% macro cv_pct(sd_mg_dl, mean_mg_dl) -%}
    100 * {{ sd_mg_dl }} / {{ mean_mg_dl }}
{%- endmacro %}


{% macro j_index(mean_mg_dl, sd_mg_dl) -%}
    0.001 * power({{ mean_mg_dl }} + {{ sd_mg_dl }}, 2)
{%- endmacro %}


{#- Weights of the four zones outside 70 to 180; a zone is what lies beyond one limit and not beyond the next. -#}
{% macro gri(below_54_pct, below_70_pct, above_180_pct, above_250_pct) -%}
    least(
        3.0 * {{ below_54_pct }}
        + 2.4 * ({{ below_70_pct }} - {{ below_54_pct }})
        + 1.6 * {{ above_250_pct }}
        + 0.8 * ({{ above_180_pct }} - {{ above_250_pct }}),
        100.0
    )
{%- endmacro %}


{#- Received of expected readings; a sensor that runs fast can give one more than a day has slots. -#}
{% macro coverage_pct(received, expected) -%}
    least(100.0 * {{ received }} / nullif({{ expected }}, 0), 100.0)
{%- endmacro %}
