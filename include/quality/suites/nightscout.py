"""What must hold for Nightscout: on landing (bronze), of the facts (silver) and of the marts (gold).

Keys, not-nulls and accepted values that dbt tests on its own models are not repeated here; a gate looks at what lies
between layers, between runs, and at what a reader would find implausible.
"""

from include.layers import Layer
from include.quality.checks import Check, Query, RowRule, Severity, Suite, between, has_rows, rows
from include.quality.suites import built
from include.quality.suites.windows import IN_INTERVAL, LANDED, RECORDS, landed

MAX_SHARE = 0.05
SPARE_ROWS = 5

ENTRIES, TREATMENTS, DEVICESTATUS, PROFILE = STREAMS = (
    "nightscout_entries",
    "nightscout_treatments",
    "nightscout_devicestatus",
    "nightscout_profile",
)

# Which field tells the event, per stream, as the loader has it.
EVENT_AT = {
    ENTRIES: "coalesce(to_timestamp(date / 1000), try_cast(date_string as timestamptz))",
    TREATMENTS: "coalesce(try_cast(created_at as timestamptz), to_timestamp(date / 1000))",
    DEVICESTATUS: "coalesce(try_cast(created_at as timestamptz), to_timestamp(date / 1000))",
    PROFILE: "coalesce(try_cast(start_date as timestamptz), try_cast(created_at as timestamptz))",
}


def _event_rules(table: str) -> tuple[RowRule, ...]:
    return (
        RowRule(
            "event_after_2000",
            f"{EVENT_AT[table]} >= timestamptz '2000-01-01 00:00:00+00'",
            "A device whose clock was never set reports 1970; such a reading belongs to no day.",
        ),
        RowRule(
            "event_not_in_future",
            f"{EVENT_AT[table]} <= fetched_at + interval 1 day",
            "An event more than a day after it was fetched is a wrong clock.",
        ),
    )


def _json(column: str) -> RowRule:
    return RowRule(
        f"{column}_is_json", f"{column} is null or json_valid({column})", "Text cut short cannot be read as JSON."
    )


ROW_RULES: dict[str, tuple[RowRule, ...]] = {
    ENTRIES: (
        *_event_rules(ENTRIES),
        RowRule("type_is_given", "type is not null", "Without a type nobody knows what the value means."),
        RowRule(
            "sgv_in_range",
            "coalesce(type, '') <> 'sgv' or sgv between 20 and 600",
            "No sensor measures below 20 or above 600 mg/dL; small numbers are error codes of the sensor.",
        ),
        RowRule(
            "mbg_in_range",
            "coalesce(type, '') <> 'mbg' or mbg between 20 and 600",
            "No meter measures below 20 or above 600 mg/dL.",
        ),
    ),
    TREATMENTS: (
        *_event_rules(TREATMENTS),
        RowRule(
            "insulin_in_range", "insulin is null or insulin between 0 and 100", "No pump delivers 100 units at once."
        ),
        RowRule("carbs_in_range", "carbs is null or carbs between 0 and 1000", "A kilogram of carbohydrate is a typo."),
        RowRule(
            "glucose_in_range",
            "glucose is null or glucose between 20 and 600 "
            "or (lower(coalesce(units, site_units)) like 'mmol%' and glucose between 1 and 35)",
            "Outside what a meter can show, in the units that the record states.",
        ),
        RowRule("duration_not_negative", "duration is null or duration >= 0", "Nothing ends before it starts."),
    ),
    DEVICESTATUS: (
        *_event_rules(DEVICESTATUS),
        *(_json(column) for column in ("uploader", "pump", "loop", "openaps")),
    ),
    PROFILE: (
        *_event_rules(PROFILE),
        RowRule("store_is_json", "json_valid(store)", "Without its store a profile says nothing."),
        RowRule(
            "default_profile_in_store",
            "case when json_valid(store) then list_contains(json_keys(store), default_profile) end",
            "The profile in use must be one of those that the document holds.",
        ),
    ),
}

_PREVIOUS = "interval_date >= {first_day} - ({end_day} - {first_day})::integer and interval_date < {first_day}"


def _readings(where: str) -> str:
    return f"select count(*) from bronze.{ENTRIES} where {RECORDS} and type = 'sgv' and {where}"


_ENTRIES_OVER_TIME = (
    Check(
        name="entries_some_readings_in_the_interval",
        table=f"bronze.{ENTRIES}",
        test=Query(
            sql=f"select {{first_day}} as first_day, {{end_day}} as end_day where ({_readings(IN_INTERVAL)}) = 0",
            expected="at least one sensor reading, from any site, in the interval",
        ),
        why="No sensor at any site sent anything: the sources or the way to them are broken.",
        breaks=(f"delete from bronze.{ENTRIES} where {RECORDS} and {IN_INTERVAL}",),
    ),
    Check(
        name="entries_some_readings_from_each_site",
        table=f"bronze.{ENTRIES}",
        test=Query(
            sql=f"select site, count(*) as windows from bronze.{ENTRIES} where {IN_INTERVAL} group by site "
            "having count(*) filter (where record_id is not null and type = 'sgv') = 0",
            expected="readings in the interval from each site that was asked",
        ),
        why="A person may have taken a break, or the uploader is down.",
        breaks=(f"delete from bronze.{ENTRIES} where {RECORDS} and {IN_INTERVAL}",),
        severity=Severity.WARN,
    ),
    Check(
        name="entries_at_least_half_of_the_previous_interval",
        table=f"bronze.{ENTRIES}",
        test=Query(
            sql=f"select * from (select ({_readings(IN_INTERVAL)}) as readings, ({_readings(_PREVIOUS)}) as previous) "
            "where readings < 0.5 * previous",
            expected="at least half as many readings as in the interval of the same length before it",
        ),
        why="Readings may have been lost on the way, at some sites or for part of the time.",
        breaks=(
            f"insert into bronze.{ENTRIES} select * exclude (n) replace (interval_date - "
            "({end_day} - {first_day})::integer as interval_date, 'copy ' || n || record_id as record_id) "
            f"from bronze.{ENTRIES}, range(3) as copies (n) where {RECORDS} and {IN_INTERVAL}",
        ),
        severity=Severity.WARN,
    ),
    Check(
        name="entries_fresh_at_the_end_of_the_interval",
        table=f"bronze.{ENTRIES}",
        test=Query(
            sql=f"select max({EVENT_AT[ENTRIES]}) as newest_reading from bronze.{ENTRIES} where {RECORDS} "
            f"and {IN_INTERVAL} having coalesce(max({EVENT_AT[ENTRIES]}) < {{end}} - interval 6 hour, true)",
            expected="a reading, from any site, in the last six hours of the interval",
        ),
        why="The marts of the last day would be computed from a part of it.",
        breaks=(f"delete from bronze.{ENTRIES} where {RECORDS} and {EVENT_AT[ENTRIES]} >= {{end}} - interval 6 hour",),
        severity=Severity.WARN,
    ),
)


def _bronze() -> Suite:
    checks = [
        check
        for table in STREAMS
        for check in landed(
            table,
            table.removeprefix("nightscout_"),
            EVENT_AT[table],
            ROW_RULES[table],
            streams=STREAMS,
            max_share=MAX_SHARE,
            spare_rows=SPARE_ROWS,
        )
    ]
    return Suite(
        "nightscout",
        Layer.BRONZE,
        (*checks, *_ENTRIES_OVER_TIME),
        landed=STREAMS,
        within={f"bronze.{table}": LANDED for table in STREAMS},
        row_rules=ROW_RULES,
        max_share=MAX_SHARE,
        spare_rows=SPARE_ROWS,
    )


def _passed(table: str, where: str) -> str:
    """Records of a bronze table that were not set aside, as staging has them."""
    return (
        f"(select * from bronze.{table} where {RECORDS} and {where}) as passed anti join quarantine.{table} "
        "using (site, interval_date, record_id, load_seq)"
    )


SENSOR = _passed(ENTRIES, "type = 'sgv'")
INSULIN = _passed(TREATMENTS, "insulin > 0 and coalesce(event_type, '') <> 'Temp Basal'")
CARBS = _passed(TREATMENTS, "carbs > 0")

READING = "silver.fct_cgm_reading"
BOLUS = "silver.fct_bolus_event"
CARB = "silver.fct_carb_event"
DEVICE = "silver.dim_device"
PROFILES = "silver.dim_profile_scd"
DATES = "silver.dim_date"


def _bronze_of(table: str) -> tuple[str, str]:
    return f"bronze.{table}", f"quarantine.{table}"


def _has_its_record(fact: str, key: str, day: str, value: str, source: str, table: str, column: str) -> Check:
    """Each row of a fact, in the days that changed, is a record that was not set aside and has the record's value."""
    around = f"{{around({day})}}"
    return Check(
        name=f"{fact.partition('.')[2]}_in_bronze",
        table=fact,
        test=Query(
            sql=f"select site, {day}, {key}, {value} from {fact} anti join (select site, interval_date as {day}, "
            f"record_id as {key}, {column} as {value} from {source} where {{around(interval_date)}}) as landed "
            f"using (site, {day}, {key}, {value}) where {around}",
            expected=f"each row of the days that changed to have its record, with the same {value}, in bronze and not "
            "set aside",
            reads=_bronze_of(table),
        ),
        why="A fact without its source, or with another value, cannot be explained, and is left from another time.",
        breaks=(
            f"update {fact} set {value} = {value} + 1 "
            f"where rowid = (select min(rowid) from {fact} where {day} >= {{first_day}})",
        ),
    )


def _no_day_lost(fact: str, day: str, source: str, table: str) -> Check:
    """Each site and day with records has rows, and no more of them than records."""
    sql = f"""
        with landed as (select site, interval_date as {day}, count(*) as records from {source} group by all),
        built as (select site, {day}, count(*) as rows_built from {fact} group by all)
        select site, {day}, records, coalesce(rows_built, 0) as rows_built
        from landed left join built using (site, {day})
        where coalesce(rows_built, 0) not between 1 and records
    """
    return Check(
        name=f"{fact.partition('.')[2]}_has_every_day",
        table=fact,
        test=Query(
            sql=sql,
            expected="rows for each site and day with records, and no more of them than records",
            reads=_bronze_of(table),
        ),
        why="A day that landed and was not built is missing from every mart.",
        breaks=(f"delete from {fact} where {day} = (select max({day}) from {fact})",),
    )


def _due(source: str) -> str:
    return f"select count(*) from {source}"


def _silver() -> Suite:
    checks = (
        has_rows(READING),
        _has_its_record(READING, "record_id", "reading_date", "glucose_mg_dl", SENSOR, ENTRIES, "sgv"),
        _no_day_lost(READING, "reading_date", SENSOR, ENTRIES),
        rows(
            READING,
            "reading_near_its_slot",
            "epoch_ms(slot_at) % 300000 = 0 and abs(epoch_ms(reading_at) - epoch_ms(slot_at)) < 600000",
            why="A reading in another slot than its own or the one beside it shows at the wrong time.",
            set_to="slot_at = slot_at + interval 1 minute",
            show=("site", "slot_at", "reading_at"),
            words="slots at whole five minutes, each with a reading from less than ten minutes away",
        ),
        rows(
            READING,
            "units_agree",
            "abs(glucose_mg_dl - 18.018 * glucose_mmol_l) <= 0.1 + 0.0005 * glucose_mg_dl",
            why="The same reading would be read differently by those who think in mmol/L.",
            set_to="glucose_mmol_l = glucose_mg_dl",
            show=("site", "slot_at", "glucose_mg_dl", "glucose_mmol_l"),
            words="glucose in mg/dL to be 18.018 times glucose in mmol/L, but for rounding",
        ),
        rows(
            READING,
            "local_time_is_that_of_the_site",
            "local_at = timezone(time_zone, reading_at) and local_date = local_at::date",
            where="reading_date >= {first_day} - 1 and reading_date <= {end_day}",
            why="Patterns by hour of day, and days, would be those of another time zone.",
            set_to="local_at = local_at + interval 1 hour",
            show=("site", "time_zone", "reading_at", "local_at", "local_date"),
            words="local time and day of the site's own time zone, in the days around the interval",
        ),
        has_rows(BOLUS, due=_due(INSULIN), reads=_bronze_of(TREATMENTS)),
        _has_its_record(BOLUS, "bolus_id", "bolus_date", "insulin_units", INSULIN, TREATMENTS, "insulin"),
        _no_day_lost(BOLUS, "bolus_date", INSULIN, TREATMENTS),
        has_rows(CARB, due=_due(CARBS), reads=_bronze_of(TREATMENTS)),
        _has_its_record(CARB, "carb_id", "carb_date", "carbs_g", CARBS, TREATMENTS, "carbs"),
        _no_day_lost(CARB, "carb_date", CARBS, TREATMENTS),
        has_rows(
            DEVICE,
            due=_due(_passed(ENTRIES, "nullif(trim(device), '') is not null")),
            reads=_bronze_of(ENTRIES),
        ),
        rows(
            DEVICE,
            "seen_in_order",
            "first_seen_at <= last_seen_at and entries + treatments + statuses > 0",
            why="A device that nobody saw, or that was last seen before it was first seen, was put together wrongly.",
            set_to="first_seen_at = last_seen_at + interval 1 day",
            words="each device seen at least once, first before last",
        ),
        has_rows(PROFILES, due=_due(_passed(PROFILE, "true")), reads=_bronze_of(PROFILE)),
        Check(
            name="dim_profile_scd_covers_the_day",
            table=PROFILES,
            test=Query(
                sql=f"select site, profile_name, version, min(from_minute) as starts, max(until_minute) as ends, "
                f"sum(until_minute - from_minute)::bigint as minutes from {PROFILES} group by all "
                "having starts <> 0 or ends <> 1440 or minutes <> 1440 or min(until_minute - from_minute) <= 0",
                expected="each version of a profile to cover each minute of the day once",
            ),
            why="At some times of day there would be no basal rate, or two.",
            breaks=(
                f"update {PROFILES} set until_minute = until_minute + 30 "
                f"where rowid = (select min(rowid) from {PROFILES})",
            ),
        ),
        Check(
            name="dim_profile_scd_versions_do_not_overlap",
            table=PROFILES,
            test=Query(
                sql="with versions as (select distinct site, profile_name, version, valid_from, valid_to "
                f"from {PROFILES}), ordered as (select *, lead(valid_from) over (partition by site, profile_name "
                "order by version) as next_from from versions) "
                "select * from ordered where valid_to <= valid_from or coalesce(valid_to, 'infinity') > next_from",
                expected="each version to end after it begins, and before the next begins",
            ),
            why="Two versions in force at once give two answers to what was set when.",
            breaks=(f"update {PROFILES} set valid_to = valid_from - interval 1 day",),
        ),
        rows(
            PROFILES,
            "settings_are_plausible",
            "(basal_units_per_hour is null or basal_units_per_hour between 0 and 15) "
            "and (sensitivity_mg_dl_per_unit is null or sensitivity_mg_dl_per_unit between 3 and 600) "
            "and (target_low_mg_dl is null or target_low_mg_dl between 50 and 250) "
            "and (target_low_mg_dl is null or target_high_mg_dl is null or target_low_mg_dl <= target_high_mg_dl)",
            why="Far outside what people use, a setting was read in the wrong unit.",
            set_to="target_low_mg_dl = 5.5",
            show=(
                "site",
                "profile_name",
                "version",
                "from_minute",
                "basal_units_per_hour",
                "sensitivity_mg_dl_per_unit",
                "target_low_mg_dl",
                "target_high_mg_dl",
            ),
            words="basal to 15 U/h, sensitivity 3 to 600 mg/dL per U, targets 50 to 250 mg/dL with low up to high",
            severity=Severity.WARN,
        ),
        has_rows(DATES),
        Check(
            name="dim_date_has_every_day_of_the_readings",
            table=DATES,
            test=Query(
                sql=f"select distinct local_date from {READING} anti join {DATES} on local_date = date_day "
                "order by local_date",
                expected="a row for each local day with readings",
                reads=(READING,),
            ),
            why="A day without a row disappears from every report that is built on the calendar.",
            breaks=(f"delete from {DATES} where date_day = (select max(local_date) from {READING})",),
        ),
    )
    lets_pass = {DEVICE: built.KEY_IS_TESTED, DATES: built.KEY_IS_TESTED}
    return Suite("nightscout", Layer.SILVER, checks, landed=STREAMS, lets_pass=lets_pass)


DAILY = "gold.mrt_daily_glycaemia"
AGP = "gold.mrt_agp_hourly"
COVERAGE = "gold.mrt_quality_coverage"
OVERVIEW = "gold.mrt_glucose_overview"
PATTERNS = "gold.mrt_glucose_hourly_patterns"
READINGS = "gold.mrt_glucose_readings"


def _ranges(mart: str, *key: str) -> tuple[Check, ...]:
    """The identities between a mart's shares of time in ranges, and what they can be at all."""
    return (
        rows(
            mart,
            "ranges_add_up_to_100",
            "abs(below_70_pct + in_range_70_180_pct + above_180_pct - 100) < 1e-6",
            why="Each reading is below, in or above range: a sum that is not 100 lost some or counted some twice.",
            set_to="in_range_70_180_pct = in_range_70_180_pct + 1",
            show=(*key, "below_70_pct", "in_range_70_180_pct", "above_180_pct"),
            words="the shares below, in and above range of each row to add up to 100",
        ),
        rows(
            mart,
            "ranges_are_nested",
            "below_54_pct between 0 and below_70_pct and above_250_pct between 0 and above_180_pct",
            why="What is below 54 is below 70 too, and what is above 250 is above 180.",
            set_to="below_54_pct = below_70_pct + 1",
            show=(*key, "below_54_pct", "below_70_pct", "above_180_pct", "above_250_pct"),
            words="no more time below 54 than below 70, nor above 250 than above 180",
        ),
        between(mart, "mean_mg_dl", 20, 600, show=key, why="A mean of readings from 20 to 600 lies between them."),
    )


def _adds_up(mart: str, name: str, built: str, source: str, by: str, expected: str, breaks: str) -> Check:
    """Two queries, each with the columns `by` and a number of readings, say the same."""
    sql = f"""
        with built as ({built}), source as ({source})
        select {by}, coalesce(source.readings, 0) as in_silver, coalesce(built.readings, 0) as in_gold
        from source full join built using ({by})
        where coalesce(source.readings, 0) <> coalesce(built.readings, 0) order by all
    """
    return Check(
        name=f"{mart.partition('.')[2]}_{name}",
        table=mart,
        test=Query(sql, expected, reads=(READING,)),
        why="A mart that counts other readings than the facts has lost some, or kept some that are gone.",
        breaks=(breaks,),
    )


def _gold() -> tuple[Check, ...]:
    last_days = f"select site, max(local_date) as last_date from {READING} group by site"
    return (
        has_rows(DAILY),
        _adds_up(
            DAILY,
            "counts_every_reading",
            f"select site, local_date, sum(readings)::bigint as readings from {DAILY} group by all",
            f"select site, local_date, count(*) as readings from {READING} group by all",
            "site, local_date",
            "for each site and local day as many readings as there are in fct_cgm_reading",
            f"delete from {DAILY} where local_date = (select max(local_date) from {DAILY})",
        ),
        *_ranges(DAILY, "site", "local_date"),
        rows(
            DAILY,
            "tight_range_within_range",
            "in_range_70_140_pct between 0 and in_range_70_180_pct",
            why="What is within 70 to 140 is within 70 to 180 too.",
            set_to="in_range_70_140_pct = in_range_70_180_pct + 1",
            show=("site", "local_date", "in_range_70_140_pct", "in_range_70_180_pct"),
            words="no more time in 70 to 140 than in 70 to 180",
        ),
        rows(
            DAILY,
            "gmi_follows_from_mean",
            "abs(gmi_pct - (3.31 + 0.02392 * mean_mg_dl)) < 1e-6",
            why="GMI is a formula of the mean; another value comes from another day.",
            set_to="gmi_pct = gmi_pct + 1",
            show=("site", "local_date", "mean_mg_dl", "gmi_pct"),
            words="GMI = 3.31 + 0.02392 times the mean in mg/dL",
        ),
        rows(
            DAILY,
            "cv_follows_from_sd_and_mean",
            "sd_mg_dl is null or abs(cv_pct - 100 * sd_mg_dl / mean_mg_dl) < 1e-6",
            why="CV is a formula of SD and mean; another value comes from another day.",
            set_to="cv_pct = cv_pct + 1",
            where="sd_mg_dl is not null",
            show=("site", "local_date", "sd_mg_dl", "mean_mg_dl", "cv_pct"),
            words="CV = 100 times SD / mean",
        ),
        rows(
            DAILY,
            "risk_indices_are_plausible",
            "lbgi between 0 and 120 and hbgi between 0 and 130 and gri between 0 and 100 and "
            "(j_index is null or j_index between 0 and 900) and iqr_mg_dl >= 0 and median_mg_dl between 20 and 600",
            why="Outside what readings from 20 to 600 mg/dL can give.",
            set_to="gri = 101",
            show=("site", "local_date", "lbgi", "hbgi", "gri", "j_index", "iqr_mg_dl", "median_mg_dl"),
            words="LBGI, HBGI, GRI, J-index, IQR and median within what readings from 20 to 600 mg/dL can give",
        ),
        between(
            DAILY,
            "coverage_pct",
            0,
            100,
            show=("site", "local_date", "readings", "expected_readings"),
            why="More than all of a day cannot be covered.",
        ),
        rows(
            DAILY,
            "expected_readings_of_a_day",
            "expected_readings between 264 and 312 and readings between 1 and expected_readings + 2",
            why="A local day has 288 slots of five minutes, and up to two hours more or fewer when clocks change.",
            set_to="expected_readings = 144",
            show=("site", "local_date", "expected_readings", "readings"),
            words="264 to 312 expected readings in a day, and at most two received beyond them",
        ),
        has_rows(READINGS),
        Check(
            name="mrt_glucose_readings_are_the_facts",
            table=READINGS,
            test=Query(
                sql=f"""
                    with built as (
                        select site, reading_date, count(*) as readings,
                            sum(round(1000 * glucose_mg_dl))::bigint as total
                        from {READINGS} where {{around(reading_date)}} group by all
                    ),
                    source as (
                        select site, reading_date, count(*) as readings,
                            sum(round(1000 * glucose_mg_dl))::bigint as total
                        from {READING} where {{around(reading_date)}} group by all
                    )
                    select site, reading_date, source.readings as in_silver, built.readings as in_gold,
                        source.total as total_in_silver, built.total as total_in_gold
                    from source full join built using (site, reading_date)
                    where source.readings is distinct from built.readings or source.total is distinct from built.total
                    union all
                    select 'all sites', null, in_silver, in_gold, null, null
                    from (select count(*) as in_silver from {READING}), (select count(*) as in_gold from {READINGS})
                    where in_silver <> in_gold
                """,
                expected="as many readings as fct_cgm_reading, and of the days that changed the same sum for each site",
                reads=(READING,),
            ),
            why="What BI shows reading by reading must be what the marts were computed from.",
            breaks=(
                f"update {READINGS} set glucose_mg_dl = glucose_mg_dl + 1 where rowid = "
                f"(select min(rowid) from {READINGS} where reading_date >= {{first_day}})",
            ),
        ),
        has_rows(AGP),
        _adds_up(
            AGP,
            "counts_every_reading",
            f"select site, window_days, sum(readings)::bigint as readings from {AGP} group by all",
            f"select site, window_days, count(*) as readings from {READING} "
            f"join ({last_days}) as last_days using (site) cross join (values (14), (90)) as lengths (window_days) "
            "where local_date > last_date - window_days group by all",
            "site, window_days",
            "for each site and window as many readings as there are in fct_cgm_reading",
            f"delete from {AGP} where local_hour = (select max(local_hour) from {AGP})",
        ),
        rows(
            AGP,
            "percentiles_are_ordered",
            "20 <= p05_mg_dl and p05_mg_dl <= p25_mg_dl and p25_mg_dl <= p50_mg_dl and p50_mg_dl <= p75_mg_dl "
            "and p75_mg_dl <= p95_mg_dl and p95_mg_dl <= 600",
            why="The bands of the glucose profile would cross.",
            set_to="p50_mg_dl = p95_mg_dl + 1",
            show=("site", "window_days", "local_hour", "p05_mg_dl", "p25_mg_dl", "p50_mg_dl", "p75_mg_dl", "p95_mg_dl"),
            words="the 5th to the 95th percentile in order, from 20 to 600 mg/dL",
        ),
        between(AGP, "local_hour", 0, 23, show=("site", "window_days"), why="A day has hours 0 to 23."),
        has_rows(PATTERNS),
        *_ranges(PATTERNS, "site", "day_type", "local_hour"),
        _adds_up(
            PATTERNS,
            "counts_every_reading",
            f"select site, sum(readings)::bigint as readings from {PATTERNS} group by all",
            f"select site, count(*) as readings from {READING} join ({last_days}) as last_days using (site) "
            "where local_date > last_date - 90 group by all",
            "site",
            "for each site as many readings as fct_cgm_reading has in the site's last 90 days",
            f"delete from {PATTERNS} where local_hour = (select max(local_hour) from {PATTERNS})",
        ),
        has_rows(OVERVIEW),
        *_ranges(OVERVIEW, "site"),
        between(
            OVERVIEW,
            "gmi_pct",
            3.7,
            17.7,
            show=("site", "mean_mg_dl"),
            why="Outside what a mean from 20 to 600 mg/dL can give.",
        ),
        Check(
            name="mrt_glucose_overview_has_every_site",
            table=OVERVIEW,
            test=Query(
                sql=f"""
                    with source as (select site, max(reading_at) as newest from {READING} group by site)
                    select site, newest as newest_in_silver, last_reading_at as newest_in_gold
                    from source full join {OVERVIEW} using (site)
                    where newest is distinct from last_reading_at
                """,
                expected="a row for each site with readings, up to its newest reading",
                reads=(READING,),
            ),
            why="A site that is missing, or stands still, looks as if nothing had happened there.",
            breaks=(f"delete from {OVERVIEW} where rowid = (select min(rowid) from {OVERVIEW})",),
        ),
        has_rows(COVERAGE),
        _adds_up(
            COVERAGE,
            "counts_every_reading",
            f"select site, reading_date, sum(received_readings)::bigint as readings from {COVERAGE} group by all",
            f"select site, reading_date, count(*) as readings from {READING} group by all",
            "site, reading_date",
            "for each site and UTC day as many received readings as there are in fct_cgm_reading",
            f"delete from {COVERAGE} where received_readings > 0 and reading_date = "
            f"(select max(reading_date) from {COVERAGE} where received_readings > 0)",
        ),
        Check(
            name="mrt_quality_coverage_shows_what_was_set_aside",
            table=COVERAGE,
            test=Query(
                sql=f"""
                    with landed as (
                        select site, interval_date as reading_date, sum(window_records)::bigint as landed
                        from bronze.{ENTRIES} where record_id is null and {{around(interval_date)}} group by all
                    ),
                    aside as (
                        select site, interval_date as reading_date, count(*) as quarantined
                        from quarantine.{ENTRIES} where {{around(interval_date)}} group by all
                    ),
                    shown as (from {COVERAGE} where {{around(reading_date)}})
                    select site, reading_date, landed, landed_records, coalesce(quarantined, 0) as quarantined,
                        quarantined_records
                    from landed left join aside using (site, reading_date)
                    full join shown using (site, reading_date)
                    where landed is distinct from landed_records
                        or coalesce(quarantined, 0) is distinct from quarantined_records
                """,
                expected="for each site and day that changed the records that landed and those in quarantine",
                reads=_bronze_of(ENTRIES),
            ),
            why="Who reads the mart must see how much was left out of it.",
            breaks=(
                f"update {COVERAGE} set quarantined_records = quarantined_records + 1 "
                "where reading_date = {first_day}",
            ),
        ),
        rows(
            COVERAGE,
            "landed_is_passed_plus_quarantined",
            "landed_records = passed_records + quarantined_records",
            why="A record that is neither passed nor quarantined has vanished on its way into the marts.",
            set_to="passed_records = passed_records - 1",
            show=("site", "reading_date", "landed_records", "passed_records", "quarantined_records"),
            words="landed = passed + quarantined for each site and day",
        ),
        rows(
            COVERAGE,
            "counts_are_plausible",
            "coverage_pct between 0 and 100 and longest_gap_minutes between 0 and 1440 and duplicate_readings >= 0 "
            "and late_readings between 0 and received_readings and (late_pct is null or late_pct between 0 and 100) "
            "and received_readings + duplicate_readings + quarantined_records <= landed_records",
            why="More duplicates, late or broken readings than landed, or a gap longer than a day, cannot be.",
            set_to="duplicate_readings = -1",
            show=(
                "site",
                "reading_date",
                "landed_records",
                "received_readings",
                "duplicate_readings",
                "late_readings",
                "quarantined_records",
                "coverage_pct",
                "longest_gap_minutes",
            ),
            words="coverage to 100 %, gaps to a day, and received, duplicate and quarantined within what landed",
        ),
    )


GOLD = [
    *_gold(),
]

SUITES = {
    Layer.BRONZE: _bronze(),
    Layer.SILVER: _silver(),
    Layer.GOLD: Suite("nightscout", Layer.GOLD, tuple(GOLD), landed=STREAMS, lets_pass={OVERVIEW: built.KEY_IS_TESTED}),
}
