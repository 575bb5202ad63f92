"""Taking a person out of the lakehouse, for good; see docs/decisions/0019-erasure.md."""
