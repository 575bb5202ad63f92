"""Any operational PostgreSQL as a source: tables that tell when a row was changed, by keyset pages, exactly."""
