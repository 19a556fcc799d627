"""What every row of a tenant has in common."""

from typing import Any, override
from uuid import UUID

from django.db import models

from apps.core.ids import new_id


class OwnedForeignKey(models.ForeignKey[Any, Any]):
    """
    A reference within one organisation: PROTECT, no reverse name, no index, no constraint.

    Django's own index and constraint would not carry the organisation; `Meta` declares both with
    `SameOrganization` and an index that begins with it.
    """

    def __init__(self, to: Any, **kwargs: Any) -> None:  # noqa: ANN401  (Django's own signature)
        kwargs.update(
            on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
        )
        super().__init__(to, **kwargs)


class OrganizationOwned(models.Model):
    """A tenant's row: a UUIDv7 made by the application, and whose it is."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    organization = models.ForeignKey(
        "accounts.Organization", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    organization_id: UUID

    class Meta:
        abstract = True

    # Django's own way for what a row is saved by; its arguments are Django's to change.
    @override
    def _do_update(self, base_qs: Any, *others: Any, **more: Any) -> Any:
        # A saved row is found by its organization too, as all that changes or locks one is: a
        # cluster then asks one node, and an id alone never reaches another tenant's row.
        mine = base_qs.filter(organization_id=self.organization_id)
        return super()._do_update(mine, *others, **more)
