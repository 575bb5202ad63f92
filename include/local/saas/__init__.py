"""A subscription business on this machine: the operational PostgreSQL of a company that never was, for demo and tests.

Everything is a function of seed, scale, start and the moment it is looked at: the database "through" a day is what it
would have held at that midnight, so carrying it on by a day gives what making it anew would.
"""

from include.local.saas.database import State, build, ensure_schema

__all__ = ["State", "build", "ensure_schema"]
