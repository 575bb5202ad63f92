"""Any JSON API as a source: pages by dlt's REST client, records by key, numbers and times exact."""
