"""System checks that keep the direction of the house where an import linter cannot look."""

import re
from collections import Counter
from typing import Final

from django.apps import apps
from django.core import checks
from django.db.models import ForeignKey

from apps.core.events import catalogued_events, public_type

# app.noun.past_participle (house style, section 4).
_EVENT_NAME: Final = re.compile(r"([a-z]+)\.[a-z_]+\.[a-z_]+")

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


@checks.register(checks.Tags.models)
def event_names_are_sound(**_: object) -> list[checks.CheckMessage]:
    """Refuse an event whose name is malformed, not its app's, or another's; types are public."""
    kinds = catalogued_events()
    names = Counter(kind.name for kind in kinds)
    types = Counter(public_type(kind.name) for kind in kinds if kind.public)
    taken = {name for name, count in names.items() if count > 1}
    doubled = {type_ for type_, count in types.items() if count > 1}
    found: list[checks.CheckMessage] = []
    for kind in kinds:
        app = kind.__module__.split(".")[1]
        matched = _EVENT_NAME.fullmatch(kind.name)
        if matched is None or matched[1] != app:
            hint = f"The events of this app are named {app}.noun.past_participle."
            found.append(checks.Error(f"{kind.name} is misnamed.", hint=hint, id="kassa.E002"))
        if kind.name in taken or (kind.public and public_type(kind.name) in doubled):
            found.append(checks.Error(f"{kind.name} is declared twice.", id="kassa.E003"))
    return found
