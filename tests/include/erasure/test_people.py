"""Who is meant by an id, and what points to nobody else."""

import pytest

from include.erasure.people import SubjectError, look_up
from include.lake import erasures
from include.lake.attach import Lake
from include.lake.erasures import DONE, REQUESTED, Erased, subject_hash
from include.sources.subjects import subjects

KEY = "the key of the tests, long enough"


@pytest.fixture
def people(lake: Lake) -> Lake:
    """42 is somebody in two databases; two people are called Ada Bell; one row is in quarantine alone."""
    with lake.open() as connection:
        for schema in ("bronze", "quarantine"):
            connection.execute(f"create schema {schema}")
        connection.execute(
            "create table bronze.saas_users (site varchar, user_id bigint, email varchar, full_name varchar)"
        )
        connection.execute("create table bronze.saas_product_events (site varchar, user_id bigint)")
        connection.execute("create table quarantine.saas_users (site varchar, payload json)")
        connection.execute(
            "insert into bronze.saas_users values ('one', 42, 'Ada@example.com', 'Ada Bell'), "
            "('two', 42, 'bo@example.com', 'Bo Carr'), ('one', 7, 'ab@example.com', 'Ada Bell'), "
            "('one', null, null, null)"
        )
        connection.execute(
            """insert into quarantine.saas_users values ('two', '{"user_id": 9, "email": "nine@example.com"}')"""
        )
    return lake


def test_an_id_that_several_sites_have_needs_its_site(people: Lake) -> None:
    with pytest.raises(SubjectError, match="one/42, two/42"):
        look_up(people, subjects("saas"), "42", KEY)
    person = look_up(people, subjects("saas"), "one/42", KEY)
    assert person is not None and person.subject == "one/42"
    assert person.hashed == subject_hash(KEY, "one/42")
    # The name is another's too; the address and its pseudonym are not.
    assert set(person.identifiers) == {"Ada@example.com", subject_hash(KEY, "ada@example.com")}
    assert person.shared == 1


def test_somebody_who_is_only_in_quarantine_is_found(people: Lake) -> None:
    person = look_up(people, subjects("saas"), "9", KEY)
    assert person is not None and person.subject == "two/9"
    assert "nine@example.com" in person.identifiers
    assert look_up(people, subjects("saas"), "4", KEY) is None


def test_a_hash_is_the_one_that_sql_makes_and_needs_the_key(lake: Lake) -> None:
    with lake.open() as connection:
        made = connection.execute(f"select {erasures.hash_sql('$text')}", {"key": KEY, "text": "one/42"}).fetchone()
    assert made == (subject_hash(KEY, "one/42"),)
    erased = Erased(frozenset({subject_hash(KEY, "one/42")}), KEY)
    assert "one/42" in erased and "one/43" not in erased
    assert "one/42" not in Erased(erased.hashes, "another key, which is long enough")


def test_a_record_goes_on_until_it_is_done_and_then_begins_anew(lake: Lake) -> None:
    with lake.open() as connection:
        first = erasures.begin(connection, "saas", "abc", "request 1")
        assert erasures.begin(connection, "saas", "abc", "request 2") == first
        done = erasures.advance(connection, first, DONE, finished_at=first.requested_at, counts={"bronze.x": 3})
        assert done.has(REQUESTED) and done.counts == {"bronze.x": 3}
        again = erasures.begin(connection, "saas", "abc", "request 3")
        assert again.requested_by == "request 3" and again.finished_at is None
        assert len(erasures.listed(connection)) == 1
    # A restore of an older lake learns of it from the record beside the backups.
    begun = erasures.begin_again(lake, [erasures.to_json(done)])
    with lake.open(read_only=True) as connection:
        assert begun == erasures.unfinished(connection)
