"""Pools say how many write at once. Writers never meet on a table: a domain has one run, a model or stream one task."""

INGEST = "lake_writers"
TRANSFORM = "lake_transform"

# name: (slots, description); set up by `lake setup` and, on a server, from deploy/
POOLS = {
    INGEST: (4, "Streams that may be ingested at once; each writes a table of its own"),
    TRANSFORM: (2, "dbt, quarantine and releases at once; each writes tables of its own"),
}
