"""What must hold for the SaaS domain of the facts (silver) and of the marts (gold).

Keys, not-nulls and the identities of one row or one bridge are dbt tests. A gate looks at what lies between layers,
that nothing was lost on the way and that two ways to count agree, and at what a reader would find implausible.
"""

from typing import Any

from include.layers import Layer
from include.quality.checks import Check, Query, Severity, Suite, has_rows, rows
from include.quality.suites.built import KEY_IS_TESTED, agrees, due, landing, one_to_one, passed, pseudonymised
from include.sources.saas.streams import STREAMS as SOURCE

ACCOUNT = "silver.dim_account"
USER = "silver.dim_user"
PLAN = "silver.dim_plan"
MONTH = "silver.dim_saas_month"
DATES = "silver.dim_saas_date"
RATE = "silver.fct_exchange_rate"
PERIOD = "silver.fct_subscription_period"
SNAPSHOT = "silver.fct_subscription_month"
INVOICE = "silver.fct_invoice"
LINE = "silver.fct_invoice_line"
EVENT = "silver.fct_product_event"

MONTHLY = "gold.mrt_mrr_monthly"
BRIDGE = "gold.mrt_mrr_movements"
CHURN = "gold.mrt_churn"
COHORT = "gold.mrt_cohort_retention"
LIFECYCLE = "gold.mrt_subscription_lifecycle"
SURVIVAL = "gold.mrt_subscription_survival"
ACTIVITY = "gold.mrt_activity"
RECONCILIATION = "gold.mrt_revenue_reconciliation"

STREAMS = tuple(stream.table for stream in SOURCE.values())
LIVE = "deleted_at is null and source_deleted_at is null"
# Of the bridge; a renewal moves nothing.
MOVEMENTS = ("new", "reactivation", "expansion", "contraction", "churn")
FEW_ACCOUNTS = 20
OLDEST_QUOTE_DAYS = 7


def _bronze(stream: str) -> tuple[str, str]:
    return landing(f"saas_{stream}")


def _passed(stream: str, where: str = "true") -> str:
    return passed(f"saas_{stream}", where)


def _due(stream: str, where: str = "true") -> str:
    return due(f"saas_{stream}", where)


def _one_to_one(table: str, key: str, stream: str, where: str = "true", **options: Any) -> Check:
    return one_to_one(table, (key,), f"saas_{stream}", where, **options)


def _money(value: str) -> str:
    return f"{value}::decimal(18, 2)"


def _versions_in_order(table: str, of: str, at: str, name: str, expected: str, why: str) -> Check:
    sql = (
        f"select site, {of}, valid_from, valid_to, next_from from (select *, lead(valid_from) over (partition by site, "
        f"{of} order by {at}) as next_from from {table}) "
        "where valid_to < valid_from or coalesce(valid_to, 'infinity') > next_from"
    )
    return Check(
        name=f"{table.partition('.')[2]}_{name}",
        table=table,
        test=Query(sql, expected),
        why=why,
        breaks=(f"update {table} set valid_to = valid_from - interval 1 day where valid_to is not null",),
    )


def silver() -> Suite:
    asked = _bronze("subscription_changes")[0]
    wanted = f"select max(interval_date) from {asked} where record_id is null and {asked}.site = {MONTH}.site"
    checks = (
        has_rows(ACCOUNT, due=_due("accounts"), reads=_bronze("accounts")),
        _one_to_one(ACCOUNT, "account_id", "accounts"),
        has_rows(USER, due=_due("users"), reads=_bronze("users")),
        _one_to_one(USER, "user_id", "users"),
        *pseudonymised(USER, ("user_id",), "saas_users", ("email", "full_name")),
        has_rows(PLAN, due=_due("plans"), reads=_bronze("plans")),
        _one_to_one(PLAN, "plan_version_id", "plans", value="list_price"),
        _versions_in_order(
            PLAN,
            "plan_code, billing_period, currency",
            "valid_from, version, plan_version_id",
            "versions_do_not_overlap",
            "each version of a price to end where the next begins, or before",
            "Two prices in force at once give two answers to what a plan costs.",
        ),
        has_rows(MONTH, due=_due("subscription_changes", LIVE), reads=_bronze("subscription_changes")),
        Check(
            name="dim_saas_month_has_every_month",
            table=MONTH,
            test=Query(
                sql="select site, min(month_start_date) as first_month, max(as_of_date) as last_date, "
                f"count(*) as months from {MONTH} group by site having count(*) <> date_diff('month', "
                f"min(month_start_date), max(month_start_date)) + 1 or max(as_of_date) < ({wanted}) "
                f"or min(starts_at) > (select min(valid_from) from {PERIOD} where {PERIOD}.site = {MONTH}.site)",
                expected="each month from the first subscription to the last day whose changes were asked for",
                reads=(PERIOD, asked),
            ),
            why="A month that is not in the spine is in no mart, and what was lost in it seems never to have been.",
            breaks=(f"delete from {MONTH} where month_start_date = (select max(month_start_date) from {MONTH})",),
        ),
        has_rows(DATES, due=_due("subscription_changes", LIVE), reads=_bronze("subscription_changes")),
        Check(
            name="dim_saas_date_has_every_day",
            table=DATES,
            test=Query(
                sql=f"select min(date_day) as first_day, max(date_day) as last_day, count(*) as days from {DATES} "
                "having count(*) <> max(date_day) - min(date_day) + 1 "
                f"or max(date_day) < (select max(as_of_date) from {MONTH}) "
                f"or min(date_day) > (select min(month_start_date) from {MONTH})",
                expected="a row for each day of the months that are looked at, without a gap",
                reads=(MONTH,),
            ),
            why="A day without a row disappears from every report that is built on the calendar.",
            breaks=(f"delete from {DATES} where date_day = (select max(as_of_date) from {MONTH})",),
        ),
        has_rows(RATE, due=_due("exchange_rates", LIVE), reads=_bronze("exchange_rates")),
        Check(
            name="fct_exchange_rate_has_every_day",
            table=RATE,
            test=Query(
                sql=f"select site, currency, min(rate_date) as first_day, max(rate_date) as last_day, count(*) as days "
                f"from {RATE} group by site, currency having count(*) <> max(rate_date) - min(rate_date) + 1 "
                f"or max(rate_date) < (select max(as_of_date) from {MONTH} where {MONTH}.site = {RATE}.site)",
                expected="a rate of each currency for each day, to the last that is looked at",
                reads=(MONTH,),
            ),
            why="A month without a rate has no MRR.",
            breaks=(f"delete from {RATE} where rate_date = (select max(as_of_date) from {MONTH})",),
        ),
        rows(
            RATE,
            "is_above_zero",
            "exchange_rate > 0",
            why="A rate of nothing makes all revenue in its currency vanish.",
            set_to="exchange_rate = 0",
            show=("site", "currency", "rate_date", "exchange_rate"),
        ),
        rows(
            RATE,
            "is_fresh",
            f"rate_date - quoted_date <= {OLDEST_QUOTE_DAYS}",
            why="Revenue is converted at a rate of long ago: the source of rates has stopped.",
            set_to="quoted_date = rate_date - 30",
            show=("site", "currency", "rate_date", "quoted_date"),
            words=f"a quote from at most {OLDEST_QUOTE_DAYS} days before each day",
            severity=Severity.WARN,
        ),
        *_history(),
        *_documents(),
        has_rows(EVENT, due=_due("product_events", LIVE), reads=_bronze("product_events")),
        _one_to_one(EVENT, "event_id", "product_events", LIVE, value="occurred_at", day="event_date"),
    )
    tested = dict.fromkeys((ACCOUNT, USER, INVOICE, LINE, EVENT), KEY_IS_TESTED)
    return Suite("saas", Layer.SILVER, checks, landed=STREAMS, lets_pass=tested)


def _history() -> tuple[Check, ...]:
    """Subscriptions: each change is a period, periods follow each other, months are what periods say."""
    owned = f"""
        select changes.site, changes.change_id, changes.effective_at as valid_from
        from (select * from {_passed("subscription_changes", LIVE)}) as changes
        inner join (select site, subscription_id, account_id, coalesce(deleted_at, source_deleted_at) as gone_at
            from {_passed("subscriptions")}) as owners using (site, subscription_id)
        left join {ACCOUNT} as accounts using (site, account_id)
        where changes.effective_at < coalesce(least(owners.gone_at, accounts.deleted_at), 'infinity')
        qualify row_number() over (
            partition by changes.site, subscription_id, changes.effective_at order by changes.change_id desc
        ) = 1
    """
    looked_at = f"""
        select site, month_start_date, count(*) as subscriptions, sum(monthly_amount) as amount
        from {PERIOD} inner join {MONTH} using (site)
        where state <> 'canceled' and valid_from < as_of_at and (valid_to is null or valid_to >= as_of_at)
        group by site, month_start_date
    """
    seen = f"""
        select site, month_start_date, count(*) as subscriptions, sum(monthly_amount) as amount
        from {SNAPSHOT} group by site, month_start_date
    """
    changes = (*_bronze("subscription_changes"), *_bronze("subscriptions"), ACCOUNT)
    return (
        has_rows(PERIOD, due=_due("subscription_changes", LIVE), reads=_bronze("subscription_changes")),
        Check(
            name="fct_subscription_period_is_what_changed",
            table=PERIOD,
            test=Query(
                sql=f"with landed as ({owned}), built as (select site, change_id, valid_from from {PERIOD}) "
                "(select 'not built' as problem, * from landed anti join built using (site, change_id, valid_from)) "
                "union all (select 'not in bronze' as problem, * from built anti join landed "
                "using (site, change_id, valid_from))",
                expected="a period for each change that passed and is the last of its instant, and no other",
                reads=changes,
            ),
            why="A change without its period leaves revenue as it was before; a period without its change cannot be "
            "explained.",
            breaks=(f"delete from {PERIOD} where rowid = (select max(rowid) from {PERIOD})",),
        ),
        _versions_in_order(
            PERIOD,
            "subscription_id",
            "valid_from",
            "periods_do_not_overlap",
            "each period to end where the next begins, or before",
            "A subscription that is in two states at once counts twice.",
        ),
        rows(
            PERIOD,
            "amount_fits_its_state",
            "monthly_amount >= 0 and (state = 'active' or monthly_amount = 0)",
            why="Trials, pauses and cancellations are worth nothing, and nobody is paid for subscribing.",
            set_to="monthly_amount = -1",
            show=("site", "subscription_id", "valid_from", "state", "monthly_amount"),
            words="an amount from 0, and 0 where nothing is paid, in each period",
        ),
        Check(
            name="fct_subscription_period_ends_as_the_source_says",
            table=PERIOD,
            test=Query(
                sql=f"select site, subscription_id, state, status from {PERIOD} inner join (select site, "
                f"subscription_id, status from {_passed('subscriptions')}) as landed using (site, subscription_id) "
                f"where is_current and state <> status and valid_from < (select max(as_of_at) from {MONTH} "
                f"where {MONTH}.site = {PERIOD}.site)",
                expected="the state of each subscription's last period to be its status in the source",
                reads=(MONTH, *_bronze("subscriptions")),
            ),
            why="History and present of the source disagree: a change was not recorded, or came and was not read.",
            breaks=(f"update {PERIOD} set state = 'unheard of' where is_current",),
            severity=Severity.WARN,
        ),
        rows(
            PERIOD,
            "knows_its_plan",
            "plan_code is not null",
            why="Revenue of a plan that is not known is in no analysis by plan.",
            set_to="plan_code = null",
            show=("site", "subscription_id", "valid_from", "plan_version_id"),
            words="a plan that dim_plan knows in each period",
            severity=Severity.WARN,
        ),
        has_rows(SNAPSHOT, due=_due("subscription_changes", LIVE), reads=_bronze("subscription_changes")),
        Check(
            name="fct_subscription_month_is_what_periods_say",
            table=SNAPSHOT,
            test=Query(
                sql=f"with periods as ({looked_at}), months as ({seen}) select site, month_start_date, "
                "periods.subscriptions as by_periods, months.subscriptions as by_months, periods.amount as "
                "amount_by_periods, months.amount as amount_by_months from periods full join months using (site, "
                "month_start_date) where periods.subscriptions is distinct from months.subscriptions "
                "or periods.amount is distinct from months.amount",
                expected="as many subscriptions, worth as much, at each month's end as periods that hold then",
                reads=(PERIOD, MONTH),
            ),
            why="MRR is summed from these rows.",
            breaks=(f"delete from {SNAPSHOT} where rowid = (select max(rowid) from {SNAPSHOT})",),
        ),
        rows(
            SNAPSHOT,
            "has_a_rate",
            "exchange_rate is not null and mrr is not null",
            why="Without a rate there is no MRR, and the marts cannot be built.",
            set_to="exchange_rate = null",
            show=("site", "currency", "as_of_date"),
            words="a rate for the currency and the last day of each month",
        ),
    )


def _documents() -> tuple[Check, ...]:
    """Invoices and their lines."""
    invoices = f"select site, invoice_id from {_passed('invoices', LIVE)}"
    landed = _bronze("invoice_lines")[0]
    return (
        has_rows(INVOICE, due=_due("invoices", LIVE), reads=_bronze("invoices")),
        _one_to_one(INVOICE, "invoice_id", "invoices", LIVE, value="total"),
        rows(
            INVOICE,
            "total_is_that_of_its_lines",
            "lines = 0 or lines_total = total",
            why="Either a line was lost or the document is wrong; revenue is computed from lines.",
            set_to="lines_total = total + 1, lines = 1",
            show=("site", "invoice_id", "invoice_number", "total", "lines_total", "lines"),
            words="the total of each invoice to be the sum of its lines",
            severity=Severity.WARN,
        ),
        has_rows(LINE, due=_due("invoice_lines", LIVE), reads=_bronze("invoice_lines")),
        _one_to_one(
            LINE,
            "invoice_line_id",
            "invoice_lines",
            LIVE,
            value="amount",
            among=f"(site, invoice_id) in ({invoices})",
            reads=_bronze("invoices"),
        ),
        Check(
            name="fct_invoice_line_has_its_invoice",
            table=LINE,
            test=Query(
                sql=f"select site, invoice_line_id, invoice_id from {_passed('invoice_lines', LIVE)} "
                f"where (site, invoice_id) not in (select (site, invoice_id) from {INVOICE})",
                expected="an invoice for each line that passed",
                reads=(INVOICE, *_bronze("invoice_lines")),
            ),
            why="A line without its invoice is left out of revenue, since nobody knows whose it is.",
            breaks=(
                f"update {landed} set invoice_id = -1 "
                f"where rowid = (select min(rowid) from {landed} where record_id is not null)",
            ),
            severity=Severity.WARN,
        ),
    )


def _of_every_month(mart: str) -> Check:
    return agrees(
        mart,
        "has_every_month",
        f"select site, month_start_date, as_of_date from {mart}",
        f"select site, month_start_date, as_of_date from {MONTH}",
        "site, month_start_date",
        "as_of_date",
        "a row for each month of dim_saas_month",
        reads=(MONTH,),
        why="A month that is missing looks like one in which nothing happened.",
        breaks=f"delete from {mart} where month_start_date = (select max(month_start_date) from {mart})",
    )


def gold() -> tuple[Check, ...]:
    paying = f"select count(*) from {SNAPSHOT} where monthly_amount > 0"
    months = f"select count(*) from {MONTH}"
    summed = ", ".join(
        f"coalesce(sum(abs(mrr_change)) filter (where movement = '{kind}'), 0)::decimal(18, 2) as {kind}_mrr, "
        f"count(*) filter (where movement = '{kind}') as {kind}_accounts"
        for kind in MOVEMENTS
    )
    parts = ", ".join(f"{kind}_{what}" for kind in MOVEMENTS for what in ("mrr", "accounts"))
    return (
        has_rows(MONTHLY, due=paying, reads=(SNAPSHOT,)),
        agrees(
            MONTHLY,
            "sums_what_subscriptions_pay",
            f"select site, month_start_date, {_money('sum(mrr)')} as mrr, sum(subscriptions)::bigint as subscriptions "
            f"from {MONTHLY} where is_paying group by all",
            f"select site, month_start_date, {_money('sum(mrr)')} as mrr, count(*) as subscriptions from {SNAPSHOT} "
            "where monthly_amount > 0 group by all",
            "site, month_start_date",
            "mrr, subscriptions",
            "for each month the MRR of all subscriptions that are worth something",
            reads=(SNAPSHOT,),
            why="MRR that is not the sum of subscriptions is nobody's.",
            breaks=f"delete from {MONTHLY} where rowid = (select max(rowid) from {MONTHLY} where is_paying)",
        ),
        Check(
            name="mrt_mrr_monthly_goes_on_from_month_to_month",
            table=MONTHLY,
            test=Query(
                sql=f"select this.site, this.account_id, this.month_start_date, this.mrr, following.previous_mrr "
                f"from {MONTHLY} as this inner join {MONTH} as months on this.site = months.site "
                "and this.month_start_date + interval 1 month = months.month_start_date "
                f"left join {MONTHLY} as following on this.site = following.site "
                "and this.account_id = following.account_id "
                "and months.month_start_date = following.month_start_date "
                "where this.is_paying and following.previous_mrr is distinct from this.mrr",
                expected="after each month with MRR a row for the next, 0 for a churn, that begins with it",
                reads=(MONTH,),
            ),
            why="Without the zero row of a churn the loss is in no bridge.",
            breaks=(f"delete from {MONTHLY} where movement = 'churn'",),
        ),
        rows(
            MONTHLY,
            "movement_fits_its_money",
            "case movement when 'expansion' then mrr_change > 0 when 'contraction' then mrr_change < 0 "
            "when 'renewal' then mrr_change = 0 when 'churn' then mrr = 0 and not is_paying "
            "when 'new' then opening_mrr = 0 and months_since_start = 0 "
            "when 'reactivation' then opening_mrr = 0 and months_since_start > 0 else false end",
            why="A movement with the wrong sign turns growth into loss.",
            set_to="movement = 'unheard of'",
            show=("site", "account_id", "month_start_date", "movement", "opening_mrr", "mrr"),
            words="one of six movements in each row, with the sign that it stands for",
        ),
        Check(
            name="mrt_mrr_monthly_is_new_once",
            table=MONTHLY,
            test=Query(
                sql=f"select site, account_id, count(*) filter (where movement = 'new') as times from {MONTHLY} "
                "group by site, account_id having times <> 1",
                expected="each account to be new in one month",
            ),
            why="An account that is new twice is in two cohorts.",
            breaks=(f"update {MONTHLY} set movement = 'new' where movement = 'renewal'",),
        ),
        has_rows(BRIDGE, due=months, reads=(MONTH,)),
        _of_every_month(BRIDGE),
        agrees(
            BRIDGE,
            "sums_the_movements",
            f"select site, month_start_date, {parts} from {BRIDGE} where closing_accounts + churn_accounts > 0",
            f"select site, month_start_date, {summed} from {MONTHLY} group by all",
            "site, month_start_date",
            parts,
            "for each month the movements of all accounts",
            reads=(MONTHLY,),
            why="A bridge can close and still stand on other movements than those of the accounts.",
            breaks=f"update {BRIDGE} set new_mrr = new_mrr + 1, churn_mrr = churn_mrr + 1",
        ),
        rows(
            BRIDGE,
            "no_month_loses_half",
            f"opening_accounts < {FEW_ACCOUNTS} or churn_mrr <= 0.5 * opening_mrr",
            why="Half of all revenue does not leave in a month; changes or rates were lost.",
            set_to=f"opening_accounts = {FEW_ACCOUNTS}, opening_mrr = 100, churn_mrr = 90",
            show=("site", "month_start_date", "opening_mrr", "churn_mrr"),
            words="less than half of the opening MRR lost by churn in each month",
            severity=Severity.WARN,
        ),
        has_rows(CHURN, due=months, reads=(MONTH,)),
        _of_every_month(CHURN),
        rows(
            CHURN,
            "rates_follow_from_the_bridge",
            "(opening_mrr = 0 "
            "or abs(gross_revenue_churn_pct - 100 * (churn_mrr + contraction_mrr) / opening_mrr) < 0.001 "
            "and abs(net_revenue_retention_pct + net_revenue_churn_pct - 100) < 0.001 "
            "and abs(gross_revenue_retention_pct + gross_revenue_churn_pct - 100) < 0.001 "
            "and net_revenue_retention_pct >= gross_revenue_retention_pct) "
            "and (opening_accounts = 0 or abs(logo_churn_pct + logo_retention_pct - 100) < 0.001 "
            "and logo_churn_without_pauses_pct <= logo_churn_pct)",
            why="A rate that does not follow from its parts is of another month.",
            set_to="gross_revenue_retention_pct = 101",
            where="opening_mrr > 0",
            show=("site", "month_start_date", "opening_mrr", "gross_revenue_churn_pct", "net_revenue_retention_pct"),
            words="gross churn from its parts, retention as its complement, and net at least gross retention",
        ),
        has_rows(COHORT, due=paying, reads=(SNAPSHOT,)),
        agrees(
            COHORT,
            "counts_the_accounts",
            f"select site, cohort_month_date, month_start_date, retained_accounts from {COHORT} "
            "where retained_accounts > 0",
            "select site, cohort_month_date, month_start_date, count(*) as retained_accounts "
            f"from {MONTHLY} where is_paying group by all",
            "site, cohort_month_date, month_start_date",
            "retained_accounts",
            "for each cohort and month its accounts with MRR",
            reads=(MONTHLY,),
            why="Retention is read as what customers do; accounts that are lost on the way look like churn.",
            breaks=f"delete from {COHORT} where months_since_start = 0",
        ),
        rows(
            COHORT,
            "begins_whole",
            "retained_accounts between 0 and cohort_accounts and retained_mrr >= 0 and (months_since_start > 0 "
            "or retained_accounts = cohort_accounts and retained_mrr = cohort_mrr)",
            why="A cohort that does not begin with all of its accounts and money has another denominator.",
            set_to="retained_accounts = cohort_accounts + 1",
            show=("site", "cohort_month_date", "months_since_start", "cohort_accounts", "retained_accounts"),
            words="each cohort whole in its first month, and never more accounts than it has",
        ),
        *_lives(),
        *_use(),
        has_rows(RECONCILIATION, due=months, reads=(MONTH,)),
        _of_every_month(RECONCILIATION),
        agrees(
            RECONCILIATION,
            "has_what_was_invoiced",
            f"select site, month_start_date, mrr, invoiced, refunded from {RECONCILIATION}",
            f"""
                select months.site, months.month_start_date, {_money("any_value(bridge.closing_mrr)")} as mrr,
                    {_money("coalesce(sum(round(lines.invoiced * rates.exchange_rate, 2)), 0)")} as invoiced,
                    {_money("coalesce(sum(round(lines.refunded * rates.exchange_rate, 2)), 0)")} as refunded
                from {MONTH} as months inner join {BRIDGE} as bridge using (site, month_start_date)
                left join (
                    select site, date_trunc('month', issued_date)::date as month_start_date, currency,
                        coalesce(sum(amount) filter (where line_type <> 'refund'), 0)::decimal(20, 2) as invoiced,
                        coalesce(-sum(amount) filter (where line_type = 'refund'), 0)::decimal(20, 2) as refunded
                    from {LINE} where is_billed and is_recurring group by all
                ) as lines using (site, month_start_date)
                left join {RATE} as rates on months.site = rates.site and lines.currency = rates.currency
                    and months.as_of_date = rates.rate_date
                group by all
            """,
            "site, month_start_date",
            "mrr, invoiced, refunded",
            "for each month MRR as the bridge has it, and what billed lines say",
            reads=(MONTH, BRIDGE, LINE, RATE),
            why="A comparison of two numbers needs both to be right.",
            breaks=f"update {RECONCILIATION} set invoiced = invoiced + 1",
        ),
        rows(
            RECONCILIATION,
            "two_stories_agree",
            "not is_complete or mrr < 1000 or earned_pct_of_mrr between 50 and 150",
            why="What is billed and what subscriptions are worth differ by half: a billing or a data problem.",
            set_to="is_complete = true, mrr = 1000, earned_pct_of_mrr = 10",
            show=("site", "month_start_date", "earned", "mrr", "earned_pct_of_mrr"),
            words="earned revenue from 50 to 150 % of MRR in each whole month",
            severity=Severity.WARN,
        ),
    )


def _lives() -> tuple[Check, ...]:
    """Subscriptions from trial to churn, and survival."""
    begun = f"select max(as_of_at) from {MONTH} where {MONTH}.site = {PERIOD}.site"
    churned = (
        f"select count(*) from {PERIOD} where state = 'canceled' and valid_from < ({begun}) and exists "
        f"(select 1 from {PERIOD} as paid where paid.site = {PERIOD}.site and paid.monthly_amount > 0 and plan_code "
        f"is not null and paid.subscription_id = {PERIOD}.subscription_id and paid.valid_from < {PERIOD}.valid_from)"
    )
    return (
        has_rows(LIFECYCLE, due=f"select count(*) from {MONTH}", reads=(MONTH,)),
        agrees(
            LIFECYCLE,
            "has_every_subscription",
            f"select site, subscription_id, started_at from {LIFECYCLE}",
            f"select site, subscription_id, min(valid_from) as started_at from {PERIOD} where valid_from < ({begun}) "
            "group by all",
            "site, subscription_id",
            "started_at",
            "one row for each subscription that has begun",
            reads=(PERIOD, MONTH),
            why="Who is missing here has neither converted nor churned.",
            breaks=f"delete from {LIFECYCLE} where rowid = (select max(rowid) from {LIFECYCLE})",
        ),
        rows(
            LIFECYCLE,
            "happens_in_order",
            "started_at <= coalesce(first_paid_at, started_at) and coalesce(days_to_paid, 0) >= 0 "
            "and coalesce(tenure_days, 0) >= 0 and is_churned = (churned_at is not null) "
            "and (first_paid_at is not null or not is_churned) "
            "and trial_outcome in ('none', 'converted', 'running', 'not converted')",
            why="Nobody pays before he has begun or churns before he has paid.",
            set_to="first_paid_at = started_at - interval 1 day",
            show=("site", "subscription_id", "started_at", "first_paid_at", "churned_at", "trial_outcome"),
            words="begin, payment and churn of each subscription in this order",
        ),
        has_rows(SURVIVAL, due=churned, reads=(PERIOD, MONTH)),
        agrees(
            SURVIVAL,
            "counts_every_churn",
            f"select site, plan_code, tenure_days, churned from {SURVIVAL}",
            f"select site, plan_code, tenure_days, count(*) as churned from {LIFECYCLE} "
            "where is_churned and plan_code is not null group by all",
            "site, plan_code, tenure_days",
            "churned",
            "for each plan and day as many churns as subscriptions have",
            reads=(LIFECYCLE,),
            why="A curve without some of the churns shows customers more loyal than they are.",
            breaks=f"delete from {SURVIVAL} where rowid = (select max(rowid) from {SURVIVAL})",
        ),
        Check(
            name="mrt_subscription_survival_never_rises",
            table=SURVIVAL,
            test=Query(
                sql=f"select site, plan_code, tenure_days, survival, before from (select *, lag(survival, 1, 1.0) over "
                f"(partition by site, plan_code order by tenure_days) as before from {SURVIVAL}) where survival < 0 "
                "or survival > before or at_risk < churned or standard_error < 0",
                expected="survival from 1 down to 0 at least, and no more churns than were at risk",
            ),
            why="Who has churned does not come back to life: reactivations are counted elsewhere.",
            breaks=(f"update {SURVIVAL} set survival = 1.5",),
        ),
    )


def _use() -> tuple[Check, ...]:
    """Active users."""
    return (
        has_rows(ACTIVITY, due=f"select count(*) from {EVENT} where user_id is not null", reads=(EVENT,)),
        agrees(
            ACTIVITY,
            "counts_the_users_of_the_day",
            f"select site, activity_date, daily_active_users from {ACTIVITY} where daily_active_users > 0",
            "select site, event_date as activity_date, count(distinct user_id) as daily_active_users "
            f"from {EVENT} where user_id is not null and event_date <= (select max(activity_date) from {ACTIVITY}) "
            "group by all",
            "site, activity_date",
            "daily_active_users",
            "for each day the users with an event",
            reads=(EVENT,),
            why="A user who is counted twice, or not, moves every rate of use.",
            breaks=f"update {ACTIVITY} set daily_active_users = daily_active_users + 1",
        ),
        Check(
            name="mrt_activity_counts_the_users_of_four_weeks",
            table=ACTIVITY,
            test=Query(
                sql="with last as (select site, activity_date, weekly_active_users, monthly_active_users "
                f"from {ACTIVITY} qualify row_number() over (partition by site order by activity_date desc) = 1) "
                "select last.site, last.activity_date, weekly_active_users, monthly_active_users, "
                "count(distinct user_id) as monthly, "
                "count(distinct user_id) filter (where event_date > activity_date - 7) as weekly "
                f"from last left join {EVENT} as events on last.site = events.site and event_date > activity_date - 28 "
                "and event_date <= activity_date group by all "
                "having monthly <> monthly_active_users or weekly <> weekly_active_users",
                expected="on the last day the users of the seven and the 28 days to it",
                reads=(EVENT,),
            ),
            why="The marts count users as they come and go; this counts them anew.",
            breaks=(f"update {ACTIVITY} set monthly_active_users = monthly_active_users + 1",),
        ),
        Check(
            name="mrt_activity_has_every_day",
            table=ACTIVITY,
            test=Query(
                sql=f"select site, min(activity_date) as first_day, max(activity_date) as last_day, count(*) as days "
                f"from {ACTIVITY} group by site having count(*) <> max(activity_date) - min(activity_date) + 1 "
                f"or max(activity_date) < (select max(event_date) from {EVENT} where {EVENT}.site = {ACTIVITY}.site "
                f"and event_date <= (select max(interval_date) from {_bronze('product_events')[0]} "
                "where record_id is null))",
                expected="a row for each day, to the end of the data",
                reads=(EVENT, _bronze("product_events")[0]),
            ),
            why="A day without a row is not a day without users.",
            breaks=(f"delete from {ACTIVITY} where activity_date = (select max(activity_date) from {ACTIVITY})",),
        ),
        rows(
            ACTIVITY,
            "is_nested",
            "daily_active_users between 0 and weekly_active_users and weekly_active_users <= monthly_active_users "
            "and coalesce(stickiness_pct, 0) between 0 and 100",
            why="Who was active today was active this week and this month.",
            set_to="weekly_active_users = monthly_active_users + 1",
            show=("site", "activity_date", "daily_active_users", "weekly_active_users", "monthly_active_users"),
            words="no more users of a day than of its week, nor of its week than of four",
        ),
    )
