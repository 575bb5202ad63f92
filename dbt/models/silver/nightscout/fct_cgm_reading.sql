{{
    config(
        materialized='incremental',
        incremental_strategy='rebuild_days',
        partitioned_by=['year(reading_date)', 'month(reading_date)'],
    )
}}

{%- set plan = rebuild_plan(day='reading_date', reads={'nightscout_entries': none}) %}

{{ rebuild_line(plan) }}

with

readings as (

    select
        *,
        {{ epoch_ms_of('reading_at') }} as reading_ms
    from {{ ref('stg_nightscout__entries') }}
    where
        entry_type = 'sgv'
        and glucose_mg_dl is not null
        and reading_at is not null
        and {{ in_rebuild(plan, 'site', 'reading_date', widen=1) }}

),

ranked as (

    select
        *,
        row_number() over (
            partition by site
            order by
                case when coalesce(trend, 'NONE') in ('NONE', 'NOT COMPUTABLE') then 1 else 0 end,
                reading_ms,
                record_id,
                device_name,
                glucose_mg_dl
        ) as preference
    from readings

),

bettered as (

    select
        *,
        preference > min(preference) over (
            partition by site
            order by reading_ms
            range between 29999 preceding and 29999 following
        ) as is_bettered
    from ranked

),

judged as (

    select
        *,
        is_bettered and bool_or(not is_bettered) over (
            partition by site
            order by reading_ms
            range between 29999 preceding and 29999 following
        ) as is_repeat
    from bettered

),

clocked as (

    select
        *,
        reading_ms - reading_ms % {{ slot_ms() }} as clock_slot_ms
    from judged
    where not is_repeat

),

clock_slots as (

    select
        site,
        clock_slot_ms,
        min(reading_ms) as first_ms,
        max(reading_ms) as last_ms,
        count(*) as readings,
        coalesce(lag(clock_slot_ms) over by_time = clock_slot_ms - {{ slot_ms() }}, false) as is_after_another,
        coalesce(lead(clock_slot_ms) over by_time = clock_slot_ms + {{ slot_ms() }}, false) as is_before_another
    from clocked
    group by site, clock_slot_ms
    window by_time as (partition by site order by clock_slot_ms)

),

crowded as (

    select
        *,
        readings = 2 and last_ms - first_ms >= 150000 as is_crowded,
        readings = 1 and first_ms - clock_slot_ms >= 150000 and is_after_another as can_move_on,
        readings = 1 and first_ms - clock_slot_ms < 150000 and is_before_another as can_move_back
    from clock_slots

),

numbered as (

    select
        *,
        sum(case when can_move_on then 0 else 1 end) over (
            partition by site
            order by clock_slot_ms
            rows between unbounded preceding and current row
        ) as number_on,
        sum(case when can_move_back then 0 else 1 end) over (
            partition by site
            order by clock_slot_ms
            rows between current row and unbounded following
        ) as number_back
    from crowded

),

-- One key each for the joins: by site and number, the planner may pair all chains of a site.
chained as (

    select
        *,
        site || '/' || cast(number_on as varchar) as chain_on,
        site || '/' || cast(number_back as varchar) as chain_back
    from numbered

),

chains_back as (

    select
        chain_back,
        bool_or(is_crowded) and not min_by(is_after_another, clock_slot_ms) and count(*) <= 120 as moves_back
    from chained
    group by chain_back

),

chains_on as (

    select
        chained.chain_on,
        bool_or(chained.is_crowded and not chains_back.moves_back)
        and not max_by(chained.is_before_another, chained.clock_slot_ms)
        and count(*) <= 120 as moves_on
    from chained
    inner join chains_back using (chain_back)
    group by chained.chain_on

),

placed as (

    select
        clocked.*,
        case
            when chains_back.moves_back and clocked.reading_ms = chained.first_ms
                then clocked.clock_slot_ms - {{ slot_ms() }}
            when chains_on.moves_on and clocked.reading_ms = chained.last_ms
                then clocked.clock_slot_ms + {{ slot_ms() }}
            else clocked.clock_slot_ms
        end as slot_ms
    from clocked
    inner join chained using (site, clock_slot_ms)
    inner join chains_back using (chain_back)
    inner join chains_on using (chain_on)

),

slotted as (

    select
        *,
        row_number() over (partition by site, slot_ms order by reading_ms, preference) as place_in_slot
    from placed

),

timed as (

    select
        *,
        coalesce(time_zone, 'UTC') as zone,
        {{ wall_clock('reading_at', "coalesce(time_zone, 'UTC')") }} as local_at
    from slotted
    where place_in_slot = 1

),

final as (

    select
        site,
        {{ instant_of_epoch_ms('slot_ms') }} as slot_at,
        reading_at,
        reading_date,
        zone as time_zone,
        local_at,
        cast(local_at as date) as local_date,
        cast(extract(hour from local_at) as integer) as local_hour,
        glucose_mg_dl,
        {{ as_mmol_l('glucose_mg_dl') }} as glucose_mmol_l,
        trend,
        {{ device_id('site', 'device_name') }} as device_id,
        record_id,
        received_at,
        {{ epoch_ms_of('received_at') }} - reading_ms > 24 * 60 * 60 * 1000 as is_late
    from timed
    where {{ in_rebuild(plan, 'site', 'reading_date') }}

)

select * from final
