{#-
    Incremental models rebuild whole days. Which days, follows from what bronze says of itself: each load gives its
    rows a load_seq above all earlier ones, and the days of its rows are those that it changed. Where loads replace
    windows (site, UTC day), a window row stands for the day that became empty; where they replace keys, the day of a
    row never changes, and a row that went stays as a tombstone. A model remembers in meta.watermarks how far it has read each bronze table, and in meta.quarantine_applied which
    quarantined rows it left out. Both are written in the transaction that writes the model.

    rebuild_plan decides once, while the model is compiled, and the plan is kept in the compiled SQL as a comment:
    what the model selects, what the strategy deletes and what is remembered afterwards cannot disagree, whatever is
    loaded meanwhile.

    day    column of the model that is rebuilt by: a UTC or a local day. A changed UTC day rebuilds the day before
           and after it too; that covers every time zone, and slots that reach over midnight.
    reads  bronze table -> the model it is read through, or none where the model reads staging. A model never reads
           further than the one it builds on has.
-#}
{% macro rebuild_plan(day, reads) %}
    {%- set plan = {
        'model': model.name,
        'day': day,
        'full': true,
        'ranges': [],
        'load_seq': {},
        'quarantine': [],
    } -%}
    {%- if not execute or model.resource_type == 'unit_test' or flags.WHICH not in ('run', 'build') -%}
        {{ return(plan) }}
    {%- endif -%}

    {%- set incremental = is_incremental() -%}
    {%- set bounds = rebuild__bounds(reads) -%}
    {%- set from_start = not incremental or bounds | selectattr('from', 'none') | list | length > 0 -%}
    {%- for bound in bounds -%}
        {%- if bound.until is none -%}
            {%- do exceptions.raise_compiler_error(
                model.name ~ ' builds on ' ~ reads[bound.table] ~ ', which has recorded no build from '
                ~ bound.table ~ '. Build ' ~ reads[bound.table] ~ ' first.'
            ) -%}
        {%- endif -%}
        {%- if incremental and bound.from is not none and bound.until < bound.from -%}
            {%- do exceptions.raise_compiler_error(
                model.name ~ ' has read ' ~ bound.table ~ ' up to load ' ~ bound.from ~ ', but that table only has '
                ~ bound.until ~ ': it was restored or made anew. Run this model and what depends on it with '
                ~ '--full-refresh.'
            ) -%}
        {%- endif -%}
        {%- if from_start or bound.until > bound.from -%}
            {%- do plan.load_seq.update({bound.table: bound.until}) -%}
        {%- endif -%}
    {%- endfor -%}

    {%- do plan.update({'full': from_start, 'quarantine': rebuild__quarantine_changes(reads)}) -%}
    {%- if not from_start and (plan.load_seq or plan.quarantine) -%}
        {%- do plan.update({'ranges': rebuild__ranges(bounds, plan.quarantine)}) -%}
    {%- endif -%}
    {{ return(plan) }}
{% endmacro %}


{#- The plan, as the line of the compiled SQL that plan_of reads. -#}
{% macro rebuild_line(plan) -%}
    -- rebuild: {{ tojson(plan, sort_keys=true) }}
{%- endmacro %}


{#- The plan of the model that is being built; none for a model without one. -#}
{% macro plan_of(compiled_code) %}
    {%- set found = modules.re.search('^ *-- rebuild: (.*)$', compiled_code or '', modules.re.MULTILINE) -%}
    {{ return(fromjson(found.group(1)) if found else none) }}
{% endmacro %}


{#- True for the rows that the plan rebuilds, and for `widen` days around them: the context that they depend on. -#}
{% macro in_rebuild(plan, site, day, widen=0) -%}
    {%- if plan.full -%}
        true
    {%- elif not plan.ranges -%}
        false
    {%- else -%}
        {%- set ranges = [] -%}
        {%- for name, first, last in plan.ranges -%}
            {%- do ranges.append((
                name,
                (modules.datetime.date.fromisoformat(first) - modules.datetime.timedelta(days=widen)).isoformat(),
                (modules.datetime.date.fromisoformat(last) + modules.datetime.timedelta(days=widen)).isoformat(),
            )) -%}
        {%- endfor -%}
        {{ day }} between date '{{ ranges | map(attribute=1) | min }}' and date '{{ ranges | map(attribute=2) | max }}'
        and (
        {%- for name, first, last in ranges %}
            {{ 'or ' if not loop.first }}({{ site }} = {{ rebuild__literal(name) }} and {{ day }} between date '{{ first }}' and date '{{ last }}')
        {%- endfor %}
        )
    {%- endif -%}
{%- endmacro %}


{% macro rebuild__literal(text) -%}
    '{{ text | replace("'", "''") }}'
{%- endmacro %}


{% macro rebuild__relation(schema, name) %}
    {{ return(api.Relation.create(database=target.database, schema=schema, identifier=name)) }}
{% endmacro %}


{#- Per bronze table: the load that this model has read up to (none: never) and the one that it may read up to. -#}
{% macro rebuild__bounds(reads) %}
    {%- set query -%}
        with

        latest as (

            select
                model,
                source_table,
                max_by(load_seq, recorded_at) as load_seq
            from {{ rebuild__relation('meta', 'watermarks') }}
            group by model, source_table

        )

        {% for table, through in reads.items() %}
        select
            '{{ table }}' as source_table,
            (select load_seq from latest where model = '{{ model.name }}' and source_table = '{{ table }}') as read_from,
            {% if through -%}
            (select load_seq from latest where model = '{{ through }}' and source_table = '{{ table }}') as read_until
            {%- else -%}
            (select coalesce(max(load_seq), 0) from {{ rebuild__relation('bronze', table) }}) as read_until
            {%- endif %}
        {{ 'union all' if not loop.last }}
        {% endfor %}
    {%- endset -%}
    {%- set bounds = [] -%}
    {%- for row in run_query(query).rows -%}
        {%- do bounds.append({
            'table': row[0],
            'from': row[1] | int if row[1] is not none else none,
            'until': row[2] | int if row[2] is not none else none,
        }) -%}
    {%- endfor -%}
    {{ return(bounds) }}
{% endmacro %}


{#- Windows whose quarantined rows are others than those this model was built without: a gate judged again. -#}
{% macro rebuild__quarantine_changes(reads) %}
    {%- set query -%}
        with

        applied as (

            select
                model,
                source_table,
                site,
                interval_date,
                max_by(fingerprint, recorded_at) as fingerprint
            from {{ rebuild__relation('meta', 'quarantine_applied') }}
            group by model, source_table, site, interval_date

        ),

        present as (

            {% for table, through in reads.items() %}
            {% if through -%}
            select
                source_table,
                site,
                interval_date,
                fingerprint
            from applied
            where model = '{{ through }}' and source_table = '{{ table }}'
            {%- else -%}
            select
                '{{ table }}' as source_table,
                site,
                interval_date,
                {{ set_hash("record_id || ' ' || cast(load_seq as varchar)") }} as fingerprint
            from {{ rebuild__relation('quarantine', table) }}
            where interval_date is not null
            group by site, interval_date
            {%- endif %}
            {{ 'union all' if not loop.last }}
            {% endfor %}

        ),

        mine as (

            select * from applied
            where model = '{{ model.name }}'

        )

        select
            coalesce(present.source_table, mine.source_table) as source_table,
            coalesce(present.site, mine.site) as site,
            cast(coalesce(present.interval_date, mine.interval_date) as varchar) as interval_date,
            coalesce(present.fingerprint, '') as fingerprint
        from present
        full outer join mine
            on
                present.source_table = mine.source_table
                and present.site = mine.site
                and present.interval_date = mine.interval_date
        where coalesce(present.fingerprint, '') <> coalesce(mine.fingerprint, '')
        order by 1, 2, 3
    {%- endset -%}
    {%- set changes = [] -%}
    {%- for row in run_query(query).rows -%}
        {%- do changes.append([row[0], row[1], row[2] | string, row[3]]) -%}
    {%- endfor -%}
    {{ return(changes) }}
{% endmacro %}


{#- The changed days and their neighbours, as runs of days per site. -#}
{% macro rebuild__ranges(bounds, quarantine) %}
    {%- set query -%}
        with

        changed as (

            {% for bound in bounds %}
            select
                site,
                interval_date
            from {{ rebuild__relation('bronze', bound.table) }}
            where load_seq > {{ bound.from }} and load_seq <= {{ bound.until }}
            {{ 'union' if not loop.last }}
            {% endfor %}
            {% for table, site, day, fingerprint in quarantine %}
            union
            select {{ rebuild__literal(site) }}, date '{{ day }}'
            {% endfor %}

        ),

        rebuilt as (

            select distinct
                changed.site,
                {{ add_days('changed.interval_date', 'around.days') }} as day
            from changed
            cross join (values (-1), (0), (1)) as around (days)

        ),

        numbered as (

            select
                site,
                day,
                {{ add_days('day', '-cast(row_number() over (partition by site order by day) as integer)') }} as run_of_days
            from rebuilt

        )

        select
            site,
            cast(min(day) as varchar) as first_day,
            cast(max(day) as varchar) as last_day
        from numbered
        group by site, run_of_days
        order by 1, 2
    {%- endset -%}
    {%- set ranges = [] -%}
    {%- for row in run_query(query).rows -%}
        {%- do ranges.append([row[0], row[1] | string, row[2] | string]) -%}
    {%- endfor -%}
    {{ return(ranges) }}
{% endmacro %}
