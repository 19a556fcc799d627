"""System checks that keep the direction of the house where an import linter cannot look."""

from typing import Final

from django.apps import apps
from django.core import checks
from django.db.models import ForeignKey

# The level of each app; siblings share one. A test compares it with the import contract.
RANK: Final = {
    "core": 0,
    "accounts": 1,
    "ledger": 2,
    "webhooks": 3,
    "banking": 4,
    "approvals": 5,
    "risk": 6,
    "payments": 7,
    "payouts": 7,
    "settlements": 8,
    "reconciliation": 9,
    "backoffice": 10,
}


@checks.register(checks.Tags.models)
def foreign_keys_point_down(**_: object) -> list[checks.CheckMessage]:
    """Refuse a foreign key to an app that is not below: one named by a text leaves no import."""
    return [
        checks.Error(f"{field} points at {target}, which is not below it.", id="kassa.E001")
        for model in apps.get_models(include_auto_created=True)
        for field in model._meta.get_fields()
        if isinstance(field, ForeignKey)
        and not isinstance(field.related_model, str)
        and (source := model._meta.app_label) in RANK
        and (target := field.related_model._meta.app_label) in RANK
        and target != source
        and RANK[target] >= RANK[source]
    ]
