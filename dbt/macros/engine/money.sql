{#-
    Money is decimal, and DuckDB divides decimals as doubles: these count in whole units instead. Both round half away
    from zero, as invoices do.
-#}

{#- numerator / denominator (above zero) to `scale` decimals; neither has more than eight decimals of its own. -#}
{% macro quotient(numerator, denominator, scale) -%}
    {{ return(adapter.dispatch('quotient')(numerator, denominator, scale)) }}
{%- endmacro %}

{% macro duckdb__quotient(numerator, denominator, scale) -%}
    {%- set above = 'cast(' ~ numerator ~ ' as decimal(28, 8))' -%}
    {%- set below = 'cast(cast(' ~ denominator ~ ' as decimal(28, 8)) * 100000000 as hugeint)' -%}
    cast(
        cast(
            sign({{ above }}) * (
                (2 * cast(abs({{ above }}) * 100000000 as hugeint) * {{ 10 ** scale }} + {{ below }}) // (2 * {{ below }})
            ) as decimal(28, 0)
        ) * cast({{ '%.*f' | format(scale, 10 ** -scale) }} as decimal({{ scale + 1 }}, {{ scale }}))
        as decimal(28, {{ scale }})
    )
{%- endmacro %}


{#- Of whole cents the part / whole (whole numbers, whole above zero), to the cent: the same as quotient, at a fifth of
    its time. -#}
{% macro share_of_cents(cents, part, whole) -%}
    {{ return(adapter.dispatch('share_of_cents')(cents, part, whole)) }}
{%- endmacro %}

{% macro duckdb__share_of_cents(cents, part, whole) -%}
    cast(
        sign({{ cents }}) * ((2 * cast(abs({{ cents }}) as hugeint) * {{ part }} + {{ whole }}) // (2 * {{ whole }}))
        as bigint
    )
{%- endmacro %}


{#- An amount (two decimals) at a rate (eight decimals), to cents. -#}
{% macro converted(amount, rate) -%}
    {{ return(adapter.dispatch('converted')(amount, rate)) }}
{%- endmacro %}

{% macro duckdb__converted(amount, rate) -%}
    cast(round(cast({{ amount }} as decimal(20, 2)) * cast({{ rate }} as decimal(18, 8)), 2) as decimal(18, 2))
{%- endmacro %}


{#- A sum of money, as marts show it; no rows are no money. -#}
{% macro money(amount) -%}
    cast(coalesce({{ amount }}, 0) as decimal(18, 2))
{%- endmacro %}


{#- A share of money or of a count in percent, to four decimals; null of nothing. -#}
{% macro pct_of(part, whole) -%}
    case when {{ whole }} > 0 then cast({{ quotient('100 * (' ~ part ~ ')', whole, 4) }} as decimal(18, 4)) end
{%- endmacro %}
