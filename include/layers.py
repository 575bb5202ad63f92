"""One word per layer: folder, schema, dbt selector, task group and gate."""

from enum import StrEnum


class Layer(StrEnum):
    """A medallion layer. Its value is its schema in the lake, its dbt folder and its task group."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"

    @property
    def gate(self) -> str:
        """Task id and checkpoint name of the gate on this layer."""
        return f"gate_{self.value}"

    def selector(self, domain: str) -> str:
        """dbt selector for the models of one domain in this layer."""
        return f"path:models/{self.value}/{domain}"


MARTS_SCHEMA = "marts"
QUARANTINE_SCHEMA = "quarantine"
META_SCHEMA = "meta"
