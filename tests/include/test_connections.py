import pytest

from include.connections import Connection, Postgres, Storage
from include.errors import SetupError


def test_uri_and_json_say_the_same() -> None:
    uri = Connection.parse("marts", "postgres://me:p%40ss%2F@db.example:5433/marts")
    json = Connection.parse(
        "marts", '{"host": "db.example", "port": 5433, "login": "me", "password": "p@ss/", "schema": "marts"}'
    )
    assert uri == json
    assert uri.password == "p@ss/"


def test_socket_folder_comes_from_the_query() -> None:
    server = Postgres.of(Connection.parse("marts", "postgres://me:x@/marts?host=%2Frun%2Fpg"))
    assert server.host == "/run/pg"
    assert "dbname='marts'" in server.conninfo()


@pytest.mark.parametrize("text", ["{not json", "no-scheme", "postgres://u:secret@host:notaport/db"])
def test_unreadable_connection_is_named_without_its_secret(text: str) -> None:
    with pytest.raises(SetupError, match="AIRFLOW_CONN_MARTS") as caught:
        Connection.parse("marts", text)
    assert "secret" not in str(caught.value)


def test_password_shows_in_no_repr_and_no_conninfo() -> None:
    connection = Connection.parse("marts", "postgres://me:canary@db/marts?sslmode=require")
    server = Postgres.of(connection)
    assert "canary" not in repr(connection) + repr(server) + server.conninfo()
    assert "canary" in server.passfile_line()


def test_passfile_escapes_what_libpq_splits_on() -> None:
    server = Postgres("h", 5432, "d", "u", r"a:b\c")
    assert server.passfile_line() == r"h:5432:d:u:a\:b\\c"


def test_conninfo_quotes_names() -> None:
    assert r"dbname='it\'s'" in Postgres("h", 1, "it's", "u").conninfo()


def test_incomplete_connection_says_what_it_needs() -> None:
    with pytest.raises(SetupError, match="lake_catalog needs a host, a login and a database"):
        Postgres.of(Connection("lake_catalog", host="h"))
    with pytest.raises(SetupError, match="names no place"):
        Storage.of(Connection("lake_storage"))
    with pytest.raises(SetupError, match="expected a folder or s3"):
        Storage("gs://bucket/x")


def test_encryption_is_what_the_connection_asks_for() -> None:
    plain = Connection.parse("c", "postgres://reader:secret-word@db.example.org/production")
    assert "ssl" not in Postgres.of(plain).conninfo()
    strict = Connection.parse("c", "postgres://reader:secret-word@db.example.org/production?sslmode=verify-full")
    assert Postgres.of(strict).conninfo().endswith(" sslmode='verify-full'")


@pytest.mark.parametrize("port", [5432, 6543])
@pytest.mark.parametrize("host", ["db.example", "/tmp/a folder/pg"])
def test_a_database_reads_back_from_its_uri(host: str, port: int) -> None:
    target = Postgres(host, port, "marts", "marts_publisher", "p@ss/w:rd%?&é")
    assert Postgres.of(Connection.parse("marts", target.uri())) == target
