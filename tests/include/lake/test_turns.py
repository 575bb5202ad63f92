"""One run of a domain at a time, on a real catalog database."""

from concurrent.futures import ThreadPoolExecutor

from include.lake.attach import Lake
from include.lake.turns import Run, take_turn

FIRST, SECOND = Run("nightscout_daily", "scheduled__1"), Run("nightscout_replay", 'it\'s; "odd"')


def test_a_run_keeps_its_turn_until_it_has_ended(lake: Lake) -> None:
    running = {FIRST, SECOND}
    assert take_turn(lake.catalog, "nightscout", FIRST, running.__contains__) == FIRST
    assert take_turn(lake.catalog, "nightscout", SECOND, running.__contains__) == FIRST
    assert take_turn(lake.catalog, "nightscout", FIRST, running.__contains__) == FIRST
    running.remove(FIRST)
    assert take_turn(lake.catalog, "nightscout", SECOND, running.__contains__) == SECOND
    running.add(FIRST)  # cleared, it runs again
    assert take_turn(lake.catalog, "nightscout", FIRST, running.__contains__) == SECOND


def test_domains_do_not_wait_for_each_other(lake: Lake) -> None:
    assert take_turn(lake.catalog, "nightscout", FIRST, lambda _: True) == FIRST
    assert take_turn(lake.catalog, "saas", SECOND, lambda _: True) == SECOND


def test_of_many_at_once_one_has_the_turn(lake: Lake) -> None:
    runs = [Run("nightscout_daily", f"backfill__{i}") for i in range(8)]
    with ThreadPoolExecutor(len(runs)) as threads:
        holders = list(threads.map(lambda run: take_turn(lake.catalog, "nightscout", run, lambda _: True), runs))
    assert len(set(holders)) == 1
    assert set(holders) <= set(runs)
