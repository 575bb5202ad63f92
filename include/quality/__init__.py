"""Gates: Great Expectations at the doors of each layer, and the quarantine of rows that break a row rule."""
