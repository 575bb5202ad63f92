"""Schemas of a PostgreSQL database as one archive: definitions as JSON, rows as COPY text, a zip of both.

Not pg_dump, which must be as new as the server, cannot restore into a schema of another name and is not in every image
(docs/decisions/0014). What this cannot restore exactly it refuses to dump.
"""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from include.connections import Postgres
from include.errors import LakehouseError
from include.lake.passfile import use_passwords

DEFINITIONS = "definitions.json"
CHUNK = 1024 * 1024
# Rows and definitions read the same wherever they are read: qualified names, ISO dates, doubles to the last bit.
SESSION = (
    "set search_path = pg_catalog; set client_encoding = 'UTF8'; set timezone = 'UTC'; set datestyle = 'ISO, YMD'; "
    "set intervalstyle = 'postgres'; set extra_float_digits = 3; set bytea_output = 'hex'; set statement_timeout = 0; "
    "set idle_in_transaction_session_timeout = 0; set check_function_bodies = off"
)


class DumpError(LakehouseError):
    """A database cannot be dumped or restored as it is."""


@contextmanager
def session(server: Postgres) -> Iterator[psycopg.Connection]:
    """A connection whose settings make dumps exact; committing is the caller's business."""
    use_passwords(server)
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(SESSION)
        yield connection


@contextmanager
def reading(server: Postgres) -> Iterator[psycopg.Connection]:
    """One snapshot of the database, from now until the end."""
    with session(server) as connection:
        connection.execute("begin isolation level repeatable read, read only")
        connection.execute("select 1")  # takes the snapshot
        yield connection
        connection.execute("rollback")


def dump(connection: psycopg.Connection, schemas: Sequence[str], file: Path) -> dict[str, int]:
    """Write the schemas to an archive; the rows of each table.

    Raises:
        DumpError: a schema is missing, or holds something that could not be restored exactly.
    """
    definitions = _definitions(connection, schemas)
    rows = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number, table in enumerate(definitions["tables"]):
            table["member"] = f"rows/{number:05d}"
            with (
                archive.open(table["member"], "w", force_zip64=True) as member,
                connection.cursor() as cursor,
            ):
                with cursor.copy(f"copy {_name(table)} ({_stored(table)}) to stdout") as copy:
                    for data in copy:
                        member.write(data)
                table["rows"] = rows[f"{table['schema']}.{table['name']}"] = cursor.rowcount
        archive.writestr(DEFINITIONS, json.dumps(definitions, indent=1))
    return rows


def definitions(file: Path) -> dict[str, Any]:
    """What an archive says of its schemas."""
    with zipfile.ZipFile(file) as archive:
        return json.loads(archive.read(DEFINITIONS))


def restore(
    connection: psycopg.Connection,
    file: Path,
    rename: Mapping[str, str] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Make the archive's schemas, which must not exist, inside the caller's transaction; the rows of each table.

    Args:
        rename: schemas that get another name. Of those, only tables with rows, keys and checks are restored: views,
            functions and grants name the original.

    Raises:
        DumpError: a role that something was granted to does not exist, or a table took another number of rows.
    """
    rename = rename or {}
    with zipfile.ZipFile(file) as archive:
        wanted = json.loads(archive.read(DEFINITIONS))
        whole = [schema["name"] for schema in wanted["schemas"] if schema["name"] not in rename]
        if whole:
            require_roles(connection, wanted)
        rows = {}
        for schema in wanted["schemas"]:
            name = rename.get(schema["name"], schema["name"])
            connection.execute(sql.SQL("create schema {}").format(sql.Identifier(name)))
        for table in wanted["tables"]:
            connection.execute(_create(table, rename))
        _run(connection, wanted["functions"], whole)
        for table in wanted["tables"]:
            report(table["name"])
            rows[f"{table['schema']}.{table['name']}"] = _fill(connection, archive, table, rename)
        for table in wanted["tables"]:
            for constraint in table["constraints"]:
                if constraint["kind"] != "f":
                    connection.execute(f"alter table {_name(table, rename)} add {constraint['definition']}")
        foreign = [
            {"schema": table["schema"], "statement": f"alter table {_name(table)} add {constraint['definition']}"}
            for table in wanted["tables"]
            for constraint in table["constraints"]
            if constraint["kind"] == "f"
        ]
        for statements in (wanted["defaults"], foreign, wanted["indexes"]):
            _run(connection, statements, whole)
        _make_views(connection, [view["statement"] for view in wanted["views"] if view["schema"] in whole])
        for statements in (wanted["triggers"], wanted["comments"], wanted["grants"]):
            _run(connection, statements, whole)
        return rows


def require_roles(connection: psycopg.Connection, wanted: Mapping[str, Any]) -> None:
    """Check that everybody to whom an archive grants something exists.

    Raises:
        DumpError: some do not; only the server's administrator can make roles.
    """
    known = {row[0] for row in connection.execute("select rolname from pg_roles")}
    missing = sorted(set(wanted["roles"]) - known)
    if missing:
        statements = "; ".join(f"create role {sql.Identifier(role).as_string(None)}" for role in missing)
        raise DumpError(
            f"The server has no role {', '.join(missing)}, to which the backup grants something; let its administrator "
            f"run `{statements}`, then restore again."
        )


def outside_dependents(connection: psycopg.Connection, schemas: Sequence[str]) -> list[str]:
    """Views and tables of other schemas that would go or lose a key with these schemas."""
    return [
        row[0]
        for row in connection.execute(
            """
            select distinct n.nspname || '.' || c.relname
            from pg_depend d
            join pg_class source on source.oid = d.refobjid and d.refclassid = 'pg_class'::regclass
            left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
            left join pg_constraint k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid
            join pg_class c on c.oid in (r.ev_class, k.conrelid)
            join pg_namespace n on n.oid = c.relnamespace
            where source.relnamespace = any(%(schemas)s::text[]::regnamespace[])
              and c.relnamespace <> all(%(schemas)s::text[]::regnamespace[])
            order by 1
            """,
            {"schemas": existing(connection, schemas)},
        )
    ]


def existing(connection: psycopg.Connection, schemas: Sequence[str]) -> list[str]:
    """Those of the schemas that exist, quoted where they must be."""
    query = "select quote_ident(nspname) from pg_namespace where nspname = any(%s)"
    return [row[0] for row in connection.execute(query, [list(schemas)])]


# --- restoring ------------------------------------------------------------------------------------------------------


def _create(table: Mapping[str, Any], rename: Mapping[str, str]) -> str:
    columns = []
    for column in table["columns"]:
        parts = [sql.Identifier(column["name"]).as_string(None), column["type"]]
        if column["collation"]:
            parts.append(f"collate {column['collation']}")
        if column["generated"]:
            kind = "stored" if column["generated"] == "s" else "virtual"
            parts.append(f"generated always as ({column['default']}) {kind}")
        if column["not_null"]:
            parts.append("not null")
        columns.append(" ".join(parts))
    return f"create table {_name(table, rename)} ({', '.join(columns)})"


def _fill(connection: psycopg.Connection, archive: zipfile.ZipFile, table: Mapping[str, Any], rename) -> int:
    with connection.cursor() as cursor, archive.open(table["member"]) as member:
        with cursor.copy(f"copy {_name(table, rename)} ({_stored(table)}) from stdin") as copy:
            while chunk := member.read(CHUNK):
                copy.write(chunk)
        if cursor.rowcount != table["rows"]:
            raise DumpError(
                f"Table {_name(table)} took {cursor.rowcount} rows and the backup has {table['rows']}; nothing was "
                "changed."
            )
        return cursor.rowcount


def _run(connection: psycopg.Connection, statements: Sequence[Mapping[str, str]], whole: Sequence[str]) -> None:
    for each in statements:
        if each["schema"] in whole:
            connection.execute(each["statement"])


def _make_views(connection: psycopg.Connection, pending: list[str]) -> None:
    """Views may read views: those that cannot be made yet are tried again after the others."""
    while pending:
        later = []
        for statement in pending:
            try:
                with connection.transaction():
                    connection.execute(statement)
            except psycopg.errors.UndefinedTable:
                later.append(statement)
        if len(later) == len(pending):
            connection.execute(later[0])  # says what is missing
        pending = later


# --- dumping --------------------------------------------------------------------------------------------------------

_CLASSES = "from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = any(%(schemas)s)"
_TABLE = "quote_ident(n.nspname) || '.' || quote_ident(c.relname)"
_UNSUPPORTED = f"""
select case c.relkind when 'S' then 'sequence' when 'm' then 'materialized view' when 'f' then 'foreign table'
       when 'c' then 'type' when 'p' then 'partitioned table' when 'v' then 'view with other rules'
       else 'table with inheritance, row security, an identity column or rules' end, {_TABLE}
{_CLASSES}
where c.relkind in ('S', 'm', 'f', 'p', 'c')
   or (c.relkind = 'r' and (c.relhasrules or c.relrowsecurity or c.relispartition
       or exists (select from pg_inherits i where i.inhrelid = c.oid or i.inhparent = c.oid)
       or exists (select from pg_attribute a where a.attrelid = c.oid and a.attidentity <> '')))
   or (c.relkind = 'v' and exists (select from pg_rewrite r where r.ev_class = c.oid and r.rulename <> '_RETURN'))
union all
select 'type', quote_ident(n.nspname) || '.' || quote_ident(t.typname)
from pg_type t join pg_namespace n on n.oid = t.typnamespace and n.nspname = any(%(schemas)s)
where t.typtype in ('d', 'e', 'r')
union all
select 'aggregate', p.oid::regprocedure::text
from pg_proc p join pg_namespace n on n.oid = p.pronamespace and n.nspname = any(%(schemas)s)
where p.prokind in ('a', 'w')
order by 2
"""
_COLUMNS = """
select a.attname::text as name, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as not_null,
       a.attgenerated::text as generated, pg_get_expr(d.adbin, d.adrelid) as default,
       (select quote_ident(cn.nspname) || '.' || quote_ident(co.collname)
        from pg_collation co join pg_namespace cn on cn.oid = co.collnamespace
        join pg_type t on t.oid = a.atttypid
        where co.oid = a.attcollation and a.attcollation <> t.typcollation) as collation
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = %(oid)s and a.attnum > 0 and not a.attisdropped order by a.attnum
"""
_CONSTRAINTS = """
select contype::text as kind, 'constraint ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid) as definition
from pg_constraint where conrelid = %(oid)s and contype in ('p', 'u', 'c', 'f', 'x')
order by array_position(array['p', 'u', 'x', 'c', 'f'], contype::text), conname
"""
_STATEMENTS = {
    "functions": """
        select n.nspname::text as schema, pg_get_functiondef(p.oid) as statement
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace and n.nspname = any(%(schemas)s) order by p.oid
        """,
    "defaults": f"""
        select n.nspname::text as schema, format('alter table %%s alter column %%I set default %%s', {_TABLE},
               a.attname, pg_get_expr(d.adbin, d.adrelid)) as statement
        {_CLASSES} join pg_attrdef d on d.adrelid = c.oid
        join pg_attribute a on a.attrelid = c.oid and a.attnum = d.adnum and a.attgenerated = '' where c.relkind = 'r'
        """,
    "indexes": f"""
        select n.nspname::text as schema, pg_get_indexdef(i.indexrelid) as statement
        {_CLASSES} join pg_index i on i.indrelid = c.oid
        where not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.conrelid = c.oid)
        order by i.indexrelid
        """,
    "views": f"""
        select n.nspname::text as schema, format('create view %%s (%%s)%%s as %%s', {_TABLE},
               (select string_agg(quote_ident(attname), ', ' order by attnum)
                from pg_attribute where attrelid = c.oid and attnum > 0),
               case when c.reloptions is null then '' else ' with (' || array_to_string(c.reloptions, ', ') || ')' end,
               pg_get_viewdef(c.oid)) as statement
        {_CLASSES} where c.relkind = 'v' order by c.oid
        """,
    "triggers": f"""
        select n.nspname::text as schema, pg_get_triggerdef(t.oid) || case t.tgenabled when 'O' then '' else
               format('; alter table %%s %%s trigger %%I', {_TABLE}, case t.tgenabled when 'D' then 'disable'
               when 'R' then 'enable replica' else 'enable always' end, t.tgname) end as statement
        {_CLASSES} join pg_trigger t on t.tgrelid = c.oid and not t.tgisinternal order by t.oid
        """,
    "comments": f"""
        select schema, format('comment on %%s is %%L', what, words) as statement from (
            select n.nspname::text as schema, 'schema ' || quote_ident(n.nspname) as what,
                   obj_description(n.oid, 'pg_namespace') as words
            from pg_namespace n where n.nspname = any(%(schemas)s)
            union all
            select n.nspname::text, case c.relkind when 'v' then 'view ' else 'table ' end || {_TABLE},
                   obj_description(c.oid, 'pg_class') {_CLASSES} where c.relkind in ('r', 'v')
            union all
            select n.nspname::text, 'column ' || {_TABLE} || '.' || quote_ident(a.attname),
                   col_description(c.oid, a.attnum)
            {_CLASSES} join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            where c.relkind in ('r', 'v')
            union all
            select n.nspname::text, 'function ' || p.oid::regprocedure, obj_description(p.oid, 'pg_proc')
            from pg_proc p join pg_namespace n on n.oid = p.pronamespace and n.nspname = any(%(schemas)s)
        ) commented where words is not null
        """,
}
_ACLS = f"""
select n.nspname::text as schema, 'schema ' || quote_ident(n.nspname) as what, null as columns, n.nspowner as owner,
       n.nspacl as acl, false as is_function
from pg_namespace n where n.nspname = any(%(schemas)s)
union all
select n.nspname::text, 'table ' || {_TABLE}, null, c.relowner, c.relacl, false {_CLASSES} where c.relkind in ('r', 'v')
union all
select n.nspname::text, 'table ' || {_TABLE}, quote_ident(a.attname), c.relowner, a.attacl, false
{_CLASSES} join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'v')
union all
select n.nspname::text, 'function ' || p.oid::regprocedure, null, p.proowner, p.proacl, true
from pg_proc p join pg_namespace n on n.oid = p.pronamespace and n.nspname = any(%(schemas)s)
"""
_GRANTS = f"""
select schema, statement, role from (
    select schema, 0 as place, null as role, 'revoke all on ' || what || ' from public' as statement
    from ({_ACLS}) o where is_function and acl is not null
    union all
    select schema, 1, nullif(pg_get_userbyid(g.grantee), 'unknown (OID=0)')::text,
           format('grant %%s%%s on %%s to %%s%%s', g.privilege_type, coalesce(' (' || columns || ')', ''), what,
                  case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end,
                  case when g.is_grantable then ' with grant option' else '' end)
    from ({_ACLS}) o, aclexplode(o.acl) g where g.grantee <> o.owner
    union all
    select n.nspname::text, 2, nullif(pg_get_userbyid(g.grantee), 'unknown (OID=0)')::text,
           format('alter default privileges in schema %%I grant %%s on %%s to %%s%%s', n.nspname, g.privilege_type,
                  case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
                  else 'types' end,
                  case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end,
                  case when g.is_grantable then ' with grant option' else '' end)
    from pg_default_acl d join pg_namespace n on n.oid = d.defaclnamespace and n.nspname = any(%(schemas)s),
         aclexplode(d.defaclacl) g
    where d.defaclrole = (select oid from pg_roles where rolname = current_user) and g.grantee <> d.defaclrole
) granted order by place, statement
"""


def _definitions(connection: psycopg.Connection, schemas: Sequence[str]) -> dict[str, Any]:
    missing = set(schemas) - {row[0] for row in connection.execute("select nspname::text from pg_namespace")}
    if missing:
        raise DumpError(f"Database {connection.info.dbname} has no schema {', '.join(sorted(missing))} to back up.")
    names = {"schemas": list(schemas)}
    unsupported = connection.execute(_UNSUPPORTED, names).fetchall()
    if unsupported:
        listed = ", ".join(f"{kind} {name}" for kind, name in unsupported)
        raise DumpError(
            f"Database {connection.info.dbname} holds what a backup could not restore exactly: {listed}. Move it out "
            f"of {', '.join(schemas)}, into a schema of its own."
        )
    with connection.cursor(row_factory=dict_row) as cursor:
        tables = cursor.execute(
            f"select c.oid, n.nspname::text as schema, c.relname::text as name {_CLASSES} where c.relkind = 'r' "
            "order by n.nspname, c.relname",
            names,
        ).fetchall()
        for table in tables:
            oid = {"oid": table.pop("oid")}
            table["columns"] = cursor.execute(_COLUMNS, oid).fetchall()
            table["constraints"] = cursor.execute(_CONSTRAINTS, oid).fetchall()
        grants = cursor.execute(_GRANTS, names).fetchall()
        found = {kind: cursor.execute(query, names).fetchall() for kind, query in _STATEMENTS.items()}
    return {
        "schemas": [{"name": name} for name in schemas],
        "roles": sorted({grant.pop("role") for grant in grants} - {None}),
        "tables": tables,
        "grants": grants,
        **found,
    }


def _name(table: Mapping[str, Any], rename: Mapping[str, str] | None = None) -> str:
    schema = (rename or {}).get(table["schema"], table["schema"])
    return sql.Identifier(schema, table["name"]).as_string(None)


def _stored(table: Mapping[str, Any]) -> str:
    names = (column["name"] for column in table["columns"] if not column["generated"])
    return ", ".join(sql.Identifier(name).as_string(None) for name in names)
