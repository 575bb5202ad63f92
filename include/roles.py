"""What every part that grants to a reading role asks of the server first."""

import psycopg

from include.errors import SetupError


def require_role(connection: psycopg.Connection, role: str) -> None:
    """
    Raises:
        SetupError: the role does not exist; only an administrator can make it.
    """
    if connection.execute("select true from pg_roles where rolname = %s", [role]).fetchone() is None:
        raise SetupError(
            f"The PostgreSQL server has no role {role}; let its administrator run `create role {role} login` and "
            f"grant it connect on database {connection.info.dbname}."
        )
