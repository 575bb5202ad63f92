"""Pools keep writers apart: one writer per table, and nothing beside a transformation or a release."""

INGEST = "lake_writers"
TRANSFORM = "lake_transform"

# name: (slots, description); set up by `lake setup` and, on a server, from deploy/
POOLS = {
    INGEST: (4, "Streams that may be ingested at once; each writes a table of its own"),
    TRANSFORM: (1, "dbt, quarantine and releases: one writer at a time"),
}
