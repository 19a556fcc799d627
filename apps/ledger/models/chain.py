"""The audit chain: what was posted, sealed in order after the fact."""

from typing import ClassVar

from django.db import models

from apps.core.tenancy import OrganizationOwned
from apps.core.triggers import append_only


class ChainLink(models.Model):
    """One sealed entry: its place in the organisation's chain, and the hash over all up to it."""

    pk = models.CompositePrimaryKey("organization_id", "position")
    organization_id = models.UUIDField()
    position = models.BigIntegerField(db_comment="1, 2, 3 ... per organisation, no gaps.")
    entry_id = models.UUIDField()
    hash = models.BinaryField(db_comment="SHA-256 of the hash before and this entry's content.")

    class Meta:
        db_table = "ledger_chain_link"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="entry_is_sealed_once", fields=["organization_id", "entry_id"]
            ),
            models.CheckConstraint(name="chain_starts_at_one", condition=models.Q(position__gte=1)),
        ]
        triggers: ClassVar = [append_only("chain_links_are_append_only")]


class ChainHead(OrganizationOwned):
    """How far an organisation's chain has come; who seals holds this row, and nobody else does."""

    position = models.BigIntegerField(default=0)
    hash = models.BinaryField(default=b"")
    feed_position = models.BigIntegerField(
        default=0, db_comment="The last batch of the event feed whose entries are sealed."
    )
    sealed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "ledger_chain_head"
        constraints: ClassVar = [
            models.UniqueConstraint(name="chain_has_one_head", fields=["organization"]),
        ]
