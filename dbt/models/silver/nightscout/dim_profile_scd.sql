with

uploaded as (

    select
        *,
        row_number() over (
            partition by site, started_at
            order by created_at desc nulls last, modified_at desc nulls last, record_id desc
        ) as place
    from {{ ref('stg_nightscout__profile') }}
    where started_at is not null

),

documents as (

    select
        *,
        row_number() over (partition by site order by started_at) as document_number
    from uploaded
    where place = 1

),

profiles as (

    select
        documents.site,
        documents.document_number,
        documents.started_at,
        profile.key as profile_name,
        coalesce(profile.key = documents.default_profile, false) as is_default,
        lower(coalesce(
            {{ json_text('profile.value', 'units') }}, documents.profile_units, documents.site_units, 'mg/dl'
        )) as units,
        {{ json_text('profile.value', 'timezone') }} as profile_time_zone,
        try_cast({{ json_text('profile.value', 'dia') }} as double) as insulin_action_hours,
        profile.value as body
    from documents
    cross join {{ json_members('documents.store', 'profile') }}

),

schedules as (

    {% for setting, key in {
        'basal': 'basal',
        'carb_ratio': 'carbratio',
        'sensitivity': 'sens',
        'target_low': 'target_low',
        'target_high': 'target_high',
    }.items() %}
    select
        site,
        document_number,
        profile_name,
        '{{ setting }}' as setting,
        {{ json_value('body', key) }} as schedule
    from profiles
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

breakpoints as (

    select
        schedules.site,
        schedules.document_number,
        schedules.profile_name,
        schedules.setting,
        coalesce(
            try_cast({{ json_text('breakpoint.value', 'timeAsSeconds') }} as integer) / 60,
            try_cast(split_part({{ json_text('breakpoint.value', 'time') }}, ':', 1) as integer) * 60
            + try_cast(split_part({{ json_text('breakpoint.value', 'time') }}, ':', 2) as integer)
        ) as from_minute,
        try_cast({{ json_text('breakpoint.value', 'value') }} as double) as value
    from schedules
    cross join {{ json_members('schedules.schedule', 'breakpoint') }}

),

by_minute as (

    select
        site,
        document_number,
        profile_name,
        cast(from_minute as integer) as from_minute,
        max(case when setting = 'basal' then value end) as basal,
        max(case when setting = 'carb_ratio' then value end) as carb_ratio,
        max(case when setting = 'sensitivity' then value end) as sensitivity,
        max(case when setting = 'target_low' then value end) as target_low,
        max(case when setting = 'target_high' then value end) as target_high
    from breakpoints
    where from_minute between 0 and 1439 and value is not null
    group by site, document_number, profile_name, cast(from_minute as integer)

),

from_midnight as (

    select * from by_minute
    union all
    select
        profiles.site,
        profiles.document_number,
        profiles.profile_name,
        0 as from_minute,
        null as basal,
        null as carb_ratio,
        null as sensitivity,
        null as target_low,
        null as target_high
    from profiles
    where not exists (
        select 1 from by_minute
        where
            by_minute.site = profiles.site
            and by_minute.document_number = profiles.document_number
            and by_minute.profile_name = profiles.profile_name
            and by_minute.from_minute = 0
    )

),

segments as (

    select
        site,
        document_number,
        profile_name,
        from_minute,
        coalesce(lead(from_minute) over day_of_profile, 1440) as until_minute,
        {{ held_value('basal') }} as basal,
        {{ held_value('carb_ratio') }} as carb_ratio,
        {{ held_value('sensitivity') }} as sensitivity,
        {{ held_value('target_low') }} as target_low,
        {{ held_value('target_high') }} as target_high
    from from_midnight
    window
        day_of_profile as (partition by site, document_number, profile_name order by from_minute),
        so_far as (
            partition by site, document_number, profile_name
            order by from_minute
            rows between unbounded preceding and current row
        ),
        whole_day as (
            partition by site, document_number, profile_name
            order by from_minute
            rows between unbounded preceding and unbounded following
        )

),

contents as (

    select
        segments.site,
        segments.document_number,
        segments.profile_name,
        profiles.started_at,
        {{ set_hash(
            "concat_ws('|', segments.from_minute, segments.until_minute"
            ~ ", coalesce(cast(segments.basal as varchar), '-')"
            ~ ", coalesce(cast(segments.carb_ratio as varchar), '-')"
            ~ ", coalesce(cast(segments.sensitivity as varchar), '-')"
            ~ ", coalesce(cast(segments.target_low as varchar), '-')"
            ~ ", coalesce(cast(segments.target_high as varchar), '-')"
            ~ ", coalesce(cast(profiles.insulin_action_hours as varchar), '-')"
            ~ ", profiles.units, coalesce(profiles.profile_time_zone, '-'), profiles.is_default)"
        ) }} as content_hash
    from segments
    inner join profiles using (site, document_number, profile_name)
    group by segments.site, segments.document_number, segments.profile_name, profiles.started_at

),

compared as (

    select
        *,
        lag(document_number) over history as previous_document,
        lag(content_hash) over history as previous_hash
    from contents
    window history as (partition by site, profile_name order by document_number)

),

numbered as (

    select
        *,
        sum(
            case when previous_document = document_number - 1 and previous_hash = content_hash then 0 else 1 end
        ) over (
            partition by site, profile_name
            order by document_number
            rows between unbounded preceding and current row
        ) as version
    from compared

),

versions as (

    select
        site,
        profile_name,
        version,
        content_hash,
        min(started_at) as valid_from,
        min(document_number) as first_document,
        max(document_number) as last_document
    from numbered
    group by site, profile_name, version, content_hash

),

final as (

    select
        versions.site,
        versions.profile_name,
        cast(versions.version as integer) as version,
        segments.from_minute,
        segments.until_minute,
        versions.valid_from,
        successors.started_at as valid_to,
        successors.started_at is null as is_current,
        profiles.is_default,
        profiles.profile_time_zone as time_zone,
        profiles.insulin_action_hours,
        segments.basal as basal_units_per_hour,
        segments.carb_ratio as carb_ratio_g_per_unit,
        {{ as_mg_dl('segments.sensitivity', 'profiles.units') }} as sensitivity_mg_dl_per_unit,
        {{ as_mg_dl('segments.target_low', 'profiles.units') }} as target_low_mg_dl,
        {{ as_mg_dl('segments.target_high', 'profiles.units') }} as target_high_mg_dl,
        versions.content_hash
    from versions
    inner join profiles
        on
            versions.site = profiles.site
            and versions.profile_name = profiles.profile_name
            and versions.first_document = profiles.document_number
    inner join segments
        on
            versions.site = segments.site
            and versions.profile_name = segments.profile_name
            and versions.first_document = segments.document_number
    left join documents as successors
        on
            versions.site = successors.site
            and versions.last_document + 1 = successors.document_number

)

select * from final
