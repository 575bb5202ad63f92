"""What happens to one account until a moment: people, subscriptions, their changes, invoices.

Each thing has its own source of chance, and time only cuts it short: what has happened by a day is the same whatever
day the database is looked at later.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from include.local.saas.catalogue import DAY, Catalogue, Price

HOUR = 3600
MOST_USERS = 100  # of an account: user ids are account_id * MOST_USERS + number
# country, currency, time zone, VAT in per cent, weight
COUNTRIES = (
    ("US", "USD", "America/New_York", 0, 34),
    ("CA", "USD", "America/Toronto", 0, 8),
    ("DE", "EUR", "Europe/Berlin", 19, 16),
    ("FR", "EUR", "Europe/Paris", 20, 10),
    ("NL", "EUR", "Europe/Amsterdam", 21, 8),
    ("GB", "GBP", "Europe/London", 20, 14),
    ("CH", "CHF", "Europe/Zurich", 8, 5),
    ("AU", "USD", "Australia/Sydney", 10, 5),
)
INDUSTRIES = ("software", "retail", "health", "finance", "education", "logistics", "media")
GIVEN = ("Ada", "Ben", "Chloé", "Dmitri", "Elif", "Femi", "Grace", "Hana", "Ivan", "Jun", "Kofi", "Lena", "Mateo")
FAMILY = ("Adams", "Bauer", "Costa", "Díaz", "Evans", "Fischer", "García", "Haddad", "Ito", "Jansen", "Kaya", "Ōta")
REASONS = ("too expensive", "missing feature", "switched", "no longer needed", None)
TIER_WEIGHTS = (45, 33, 17, 5)


@dataclass
class Rows:
    """Rows by table; `people` are users with the days on which they may use the product."""

    accounts: list[tuple[Any, ...]] = field(default_factory=list)
    users: list[tuple[Any, ...]] = field(default_factory=list)
    subscriptions: list[tuple[Any, ...]] = field(default_factory=list)
    subscription_changes: list[tuple[Any, ...]] = field(default_factory=list)
    invoices: list[tuple[Any, ...]] = field(default_factory=list)
    invoice_lines: list[tuple[Any, ...]] = field(default_factory=list)
    people: list[tuple[int, int, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class World:
    """What all accounts share. Moments are seconds since 1970; `through` is exclusive.

    Attributes:
        at_horizon: accounts that have come by `horizon`.
    """

    seed: int
    start: int
    horizon: int
    through: int
    at_horizon: int
    catalogue: Catalogue

    def arrival(self, account_id: int) -> int:
        """When an account comes: more every month."""
        return self.start + int((self.horizon - self.start) * (account_id / self.at_horizon) ** 0.7)

    def account_ids(self) -> Iterator[int]:
        account_id = 1
        while self.arrival(account_id) < self.through:
            yield account_id
            account_id += 1

    def chance(self, *what: Any) -> Random:
        return Random(":".join(map(str, (self.seed, *what))))  # noqa: S311


def add_account(world: World, account_id: int, rows: Rows) -> None:
    """Append what the account has come to; nothing if it was erased."""
    chance, through = world.chance("account", account_id), world.through
    created = world.arrival(account_id) + chance.randrange(HOUR)
    country, currency, zone, vat, _ = chance.choices(COUNTRIES, [c[-1] for c in COUNTRIES])[0]
    name = f"{chance.choice(FAMILY)} {chance.choice(('GmbH', 'Ltd', 'Inc', 'SA', 'Group'))} {account_id}"
    industry = chance.choice(INDUSTRIES)
    renamed = created + chance.randrange(30 * DAY, 900 * DAY) if chance.random() < 0.05 else None
    second = created + chance.randrange(30 * DAY, 400 * DAY) if chance.random() < 0.12 else None
    goodbye, leaves_by = chance.random(), chance.randrange(30 * DAY, 90 * DAY)
    if created >= through:
        return
    made = Rows()
    ends, service = [], []
    for number, begin in enumerate([created + chance.randrange(2 * HOUR), second], 1):
        if begin is None:
            continue
        if begin < through:
            one = _Subscription(world, account_id, account_id * 10 + number, currency, vat, begin, made)
            one.live()
            service += one.service
            ends.append(one.ended_for_good)
        else:
            ends.append(None)
    deleted = None
    if all(end is not None for end in ends) and goodbye < 0.25:
        left = max(ends) + leaves_by
        if goodbye < 0.02 and left < through:
            return  # erased, with all that it had
        deleted = left if goodbye >= 0.02 and left < through else None
    if renamed and renamed < through:
        name += " International"
    updated = max(moment for moment in (created, renamed, deleted) if moment and moment < through)
    made.accounts.append((account_id, name, country, industry, zone, created, updated, deleted))
    _add_users(world, account_id, created, deleted, service, made)
    for table, more in vars(made).items():
        getattr(rows, table).extend(more)


def _add_users(
    world: World, account_id: int, created: int, closed: int | None, service: list[tuple[int, int]], rows: Rows
) -> None:
    through = world.through
    size = world.chance("size", account_id).choices((1, 2, 3, 4, 6, 9, 14), (18, 22, 20, 16, 12, 8, 4))[0]
    for number in range(1, size + 1):
        user_id = account_id * MOST_USERS + number
        chance = world.chance("user", user_id)
        signed_up = created if number == 1 else created + int(chance.expovariate(1 / (120 * DAY)))
        given, family = chance.choice(GIVEN), chance.choice(FAMILY)
        email = f"{given}.{family}.{user_id}@example.com".lower()
        if chance.random() < 0.002:
            email = email.replace("@", " at ")
        role = "owner" if number == 1 else chance.choices(("member", "admin"), (85, 15))[0]
        promoted = signed_up + chance.randrange(10 * DAY, 500 * DAY) if chance.random() < 0.05 else None
        fate, leaves = chance.random(), signed_up + chance.randrange(30 * DAY, 600 * DAY)
        if signed_up >= through or (closed and signed_up >= closed):
            continue
        if fate < 0.004 and leaves < through:
            continue  # erased
        deleted = leaves if 0.004 <= fate < 0.034 and leaves < through else None
        deleted = min((moment for moment in (deleted, closed) if moment), default=None)
        updated = signed_up
        if promoted and promoted < through and number > 1 and not (deleted and promoted >= deleted):
            role, updated = "admin", promoted
        updated = max(updated, deleted or 0)
        rows.users.append(
            (user_id, account_id, email, f"{given} {family}", role, signed_up, signed_up, updated, deleted)
        )
        free = 0  # subscriptions of an account overlap, and one may end and start again within a day
        for first, end in sorted(service):
            first_day, end_day = max(first, signed_up) // DAY, -(-min(end, deleted or end) // DAY)
            if max(first_day, free) < end_day:
                rows.people.append((user_id, account_id, max(first_day, free), end_day))
                free = end_day


class _Subscription:
    """One subscription from its start to the moment that the world ends at."""

    def __init__(
        self, world: World, account_id: int, subscription_id: int, currency: str, vat: int, begin: int, rows: Rows
    ) -> None:
        self._world, self._rows = world, rows
        self._through = world.through
        self._account_id, self._id = account_id, subscription_id
        self._currency, self._vat = currency, vat
        self._chance = chance = world.chance("subscription", subscription_id)
        self._tier = chance.choices(range(len(TIER_WEIGHTS)), TIER_WEIGHTS)[0]
        self._period = "year" if chance.random() < 0.25 else "month"
        self._quantity = chance.choices((1, 2, 3, 5, 8, 13, 21), (40, 20, 14, 10, 8, 5, 3))[0]
        self._begin, self._updated = begin, begin
        self._status, self._canceled_at, self._reason = "trialing", None, None
        self._trial_ends = self._first_paid = None
        self._price: Price = world.catalogue.price(self._tier, self._period, currency, begin)
        self._changes = self._invoices = 0
        self._served_from: int | None = begin
        self.service: list[tuple[int, int]] = []
        self.ended_for_good: int | None = None

    def live(self) -> None:
        chance, begin = self._chance, self._begin
        trial = self._price.trial_days if chance.random() < 0.7 else 0
        stays = chance.random() < 0.55
        if trial:
            self._change("start_trial", begin)
            self._trial_ends = begin + trial * DAY
            if self._trial_ends < self._through:
                if stays:
                    self._pay_from(self._trial_ends, "convert")
                else:
                    self._cancel(self._trial_ends, returns=None)
        else:
            self._pay_from(begin, "start")
        if self._served_from is not None:
            self.service.append((self._served_from, self._through))
        canceled = self._canceled_at
        if canceled and chance.random() < 0.002:
            canceled = begin - DAY  # somebody's import script
        self._rows.subscriptions.append(
            (
                self._id,
                self._account_id,
                self._status,
                self._currency,
                begin,
                self._trial_ends,
                self._first_paid,
                canceled,
                self._reason,
                begin,
                self._updated,
                None,
            )
        )

    def _pay_from(self, anchor: int, how: str) -> None:
        """Pay month by month from `anchor` on, until the end of the world or of the subscription."""
        self._status, self._canceled_at, self._reason = "active", None, None
        if self._first_paid is None:
            self._first_paid = anchor
        self._change(how, anchor)
        paid_to, month = anchor, 0
        while True:
            begin, end = add_months(anchor, month), add_months(anchor, month + 1)
            if begin >= self._through:
                return
            if begin >= paid_to:
                paid_to = add_months(begin, 12 if self._period == "year" else 1)
                self._bill(begin, paid_to)
            month += 1
            anchor, month, paid_to, goes_on = self._month(begin, end, anchor, month, paid_to)
            if not goes_on:
                return

    def _month(self, begin: int, end: int, anchor: int, month: int, paid_to: int) -> tuple[int, int, int, bool]:
        """What happens within one paid month; the drawn numbers are the same few whatever happens."""
        chance = self._chance
        draw, when = chance.random(), begin + int((end - begin) * chance.uniform(0.05, 0.75))
        how, back = chance.random(), chance.random()
        monthly, last = self._period == "month", end >= paid_to
        leave = 0.022 if monthly else (0.15 if last else 0.001)
        if draw < leave:
            at = end if how < 0.7 else when  # most leave on the last day that they have paid for
            returns = at + int((20 + 180 * how) * DAY) if back < 0.25 else None
            return (anchor, month, paid_to, self._end(at, returns))
        draw -= leave
        if draw < 0.004 and monthly:
            return (anchor, month, paid_to, self._end(when, when + int((1 + 3 * how) * DAY)))
        draw -= 0.004
        if draw < 0.012 and monthly:
            return (anchor, month, paid_to, self._pause(when, when + int((15 + 70 * how) * DAY)))
        draw -= 0.012
        if draw < 0.02 and self._tier < 3:
            self._to_tier(self._tier + 1, when, paid_to, "upgrade")
        elif draw < 0.032 and draw >= 0.02 and self._tier > 0:
            self._to_tier(self._tier - 1, end if monthly else when, paid_to, "downgrade")
        elif 0.032 <= draw < 0.036 and 0 < self._tier < 3:
            tier = self._tier
            self._to_tier(tier + 1, when, paid_to, "upgrade")
            self._to_tier(tier, when + int((end - when) * 0.5), paid_to, "downgrade")
        elif 0.036 <= draw < 0.076:
            more = 1 + int(how * 4) if back < 0.7 else -1
            quantity = max(1, self._quantity + more)
            if quantity != self._quantity and when < self._through:
                before, self._quantity = self._amount, quantity
                self._change("change_quantity", when)
                self._prorate(before, when, paid_to)
        elif 0.076 <= draw < 0.079 and monthly and end < self._through:
            # From the next period on they pay by the year.
            self._period = "year"
            self._to_tier(self._tier, end, end, "upgrade")
            return (end, 0, end, True)
        return (anchor, month, paid_to, True)

    def _end(self, at: int, returns: int | None) -> bool:
        if at >= self._through:
            return True
        self._cancel(at, returns)
        if returns is not None and returns < self._through:
            self._price = self._world.catalogue.price(self._tier, self._period, self._currency, returns)
            self._served_from = returns
            self._pay_from(returns, "reactivate")
        return False

    def _cancel(self, at: int, returns: int | None) -> None:
        self._status, self._canceled_at = "canceled", at
        self._reason = self._world.chance("reason", self._id, at).choice(REASONS)
        self._change("cancel", at)
        self._stop_serving(at)
        self.ended_for_good = at if returns is None else None

    def _pause(self, at: int, until: int) -> bool:
        if at >= self._through:
            return True
        self._status = "paused"
        self._change("pause", at)
        self._stop_serving(at)
        if until < self._through:
            self._served_from = until
            self._pay_from(until, "resume")
        return False

    def _stop_serving(self, at: int) -> None:
        assert self._served_from is not None
        if self._served_from < at:
            self.service.append((self._served_from, at))
        self._served_from = None

    def _to_tier(self, tier: int, at: int, paid_to: int, how: str) -> None:
        if at >= self._through:
            return
        before, self._tier = self._amount, tier
        self._price = self._world.catalogue.price(tier, self._period, self._currency, at)
        self._change(how, at)
        self._prorate(before, at, paid_to)

    @property
    def _amount(self) -> int:
        return self._price.price * self._quantity if self._status == "active" else 0

    def _change(self, how: str, at: int) -> None:
        self._changes += 1
        change_id = self._id * 1000 + self._changes
        chance = self._world.chance("change", change_id)
        late, wrong = chance.random(), chance.random()
        created = at + (chance.randrange(DAY, 20 * DAY) if late < 0.01 else chance.randrange(60))
        self._updated = max(self._updated, at)
        amount, updated, quantity = self._amount, created, self._quantity
        if wrong < 0.003:  # entered twice as high, and mended later
            mended = created + 9 * DAY
            amount, updated = (amount, mended) if mended < self._through else (2 * amount, created)
        elif wrong < 0.0035:
            quantity = -quantity
        if created < self._through:
            self._rows.subscription_changes.append(
                (
                    change_id,
                    self._id,
                    how,
                    at,
                    self._price.plan_version_id,
                    quantity,
                    amount,
                    self._period,
                    created,
                    updated,
                    None,
                )
            )

    def _bill(self, begin: int, end: int) -> None:
        price, quantity = self._price, self._quantity
        lines = [("subscription", f"{price.period}ly fee", quantity, price.price, price.price * quantity)]
        self._invoice(begin, begin, end, lines)

    def _prorate(self, before: int, at: int, paid_to: int) -> None:
        """Charge for the rest of the paid period; nobody is paid back for a cheaper plan."""
        begin = add_months(paid_to, -12 if self._period == "year" else -1)
        more = round((self._amount - before) * max(0, paid_to - at) / max(1, paid_to - begin))
        if more > 0:
            self._invoice(at, at, paid_to, [("proration", "rest of the period", 1, more, more)])

    def _invoice(self, issued: int, begin: int, end: int, lines: list[tuple[str, str, int, int, int]]) -> None:
        self._invoices += 1
        invoice_id = self._id * 1000 + self._invoices
        chance = self._world.chance("invoice", invoice_id)
        kind, slow, odd = chance.random(), chance.random(), chance.random()
        later, part, discount = chance.randrange(DAY, 25 * DAY), chance.random(), chance.random()
        first = lines[0][4]
        if discount < 0.04:
            lines = [*lines, ("discount", "10 % off", 1, -(first // 10), -(first // 10))]
        paid = issued + (HOUR if slow < 0.6 else int((slow - 0.6) * 35 * DAY))
        moments = {"open": issued}
        if kind < 0.004:
            moments["void"] = issued + 3 * DAY
        elif kind < 0.01:
            moments["uncollectible"] = issued + 60 * DAY
        else:
            moments["paid"] = paid
        refunded = paid + later if 0.01 <= kind < 0.025 else None
        if refunded and kind < 0.014 and refunded < self._through:
            # Paid back on the invoice itself.
            lines = [*lines, ("refund", "paid back", 1, -first, -first)]
            moments["refunded"] = refunded
        self._write_invoice(invoice_id, issued, begin, end, lines, moments, odd)
        if refunded and kind >= 0.014 and refunded < self._through:
            share = first if part < 0.5 else first // 2
            note = [("refund", f"credit note for {invoice_id}", 1, -share, -share)]
            self._write_invoice(invoice_id + 500, refunded, begin, end, note, {"refunded": refunded}, 1.0)

    def _write_invoice(
        self,
        invoice_id: int,
        issued: int,
        begin: int,
        end: int,
        lines: list[tuple[str, str, int, int, int]],
        moments: dict[str, int],
        odd: float,
    ) -> None:
        moments = {status: at for status, at in moments.items() if at < self._through}
        if issued >= self._through or not moments:
            return
        status, updated = max(moments.items(), key=lambda item: item[1])
        subtotal = sum(line[4] for line in lines)
        tax = round(subtotal * self._vat / 100)
        if self._vat:
            lines = [*lines, ("tax", f"{self._vat} % VAT", 1, tax, tax)]
        total, currency, ends = subtotal + tax, self._currency, end
        if odd < 0.0003:
            currency = "XXX"
        elif odd < 0.0006:
            ends = begin - DAY
        elif odd < 0.001:
            total += 100  # does not add up
        self._rows.invoices.append(
            (
                invoice_id,
                self._account_id,
                self._id,
                f"INV-{invoice_id}",
                status,
                currency,
                issued,
                issued + 14 * DAY,
                moments.get("paid") or moments.get("refunded"),
                begin,
                ends,
                subtotal,
                tax,
                total,
                issued,
                updated,
                None,
            )
        )
        back = moments.get("refunded", issued)
        for number, (kind, words, quantity, unit, amount) in enumerate(lines, 1):
            created = back if kind == "refund" else issued
            changed = back if kind == "tax" else created
            plan = self._price.plan_version_id if kind in ("subscription", "proration") else None
            self._rows.invoice_lines.append(
                (
                    invoice_id * 10 + number,
                    invoice_id,
                    kind,
                    words,
                    plan,
                    quantity,
                    unit,
                    amount,
                    begin,
                    end,
                    created,
                    changed,
                    None,
                )
            )


def add_months(moment: int, months: int) -> int:
    """The same time of day some months later, on the last day where the month is shorter."""
    at = datetime.fromtimestamp(moment, UTC)
    index = at.year * 12 + at.month - 1 + months
    year, month = index // 12, index % 12 + 1
    following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    length = (following - datetime(year, month, 1, tzinfo=UTC)).days
    return int(at.replace(year=year, month=month, day=min(at.day, length)).timestamp())
