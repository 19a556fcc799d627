"""Staff screen of API keys."""

from collections.abc import Sequence
from typing import Any, ClassVar, override

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.accounts import operations
from apps.accounts.models import ApiKey
from apps.core import clock
from apps.core.admin_base import (
    Act,
    RecordAdmin,
    cells,
    shown,
)


def masked_key(key: ApiKey, *, mode: str) -> SafeString:
    """Show the head of a key and its last four digits, as a leak would be reported."""
    return cells.code(f"kassa_{mode}_{key.key_id}…{key.last4}")


def key_state(key: ApiKey) -> SafeString:
    """Show whether a key works."""
    if key.revoked_at is not None:
        return cells.state("revoked")
    return cells.state("active" if key.expires_at > clock.now() else "expired")


def _revoke_is_off(key: ApiKey, _user: Any) -> str:  # noqa: ANN401  (the signed-in person)
    return "It is revoked already." if key.revoked_at is not None else ""


@admin.register(ApiKey)
class ApiKeyAdmin(RecordAdmin[ApiKey]):
    """Keys of our clients; the secret itself is nowhere."""

    view_capability = "accounts.view_customer"
    prefix = "ak"
    title = "API keys"
    related: ClassVar[Sequence[str]] = ("organization", "issued_by")
    intro = "A secret is shown once, when a key is made. Only its digest is kept."
    empty = "No organization has a key yet."
    search_hint = "ak_… or the 12 letters after kassa_live_"
    list_display = ("key", "name", "organization", "scopes", "issued_by", "last_used_at", "works")
    facts = (
        "key",
        "name",
        "organization",
        "scopes",
        "addresses",
        "issued_by",
        "kassa_version",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
    )
    acts = (
        Act(
            name="revoke",
            capability="accounts.revoke_api_key",
            operation=operations.revoke_api_key,
            subject="api_key_id",
            label=lambda key: f"Revoke the key {key.name}",
            off=_revoke_is_off,
            done=lambda _result: "Revoked. It opens nothing from this moment on.",
            presets=("The key was seen where it should not be.", "Its owner asked for it."),
            is_dangerous=True,
            note="Takes effect at once and cannot be undone. The organization needs a new key.",
        ),
    )

    @override
    def headline(self, obj: ApiKey) -> str:
        return f"API key {obj.name}"

    @override
    def lead(self, obj: ApiKey) -> Sequence[SafeString]:
        return [self.works(obj)]

    @override
    def find(self, request: HttpRequest, rows: QuerySet[ApiKey], text: str) -> QuerySet[ApiKey]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        return rows.filter(key_id=text.removeprefix("kassa_live_").removeprefix("kassa_test_")[:12])

    def key(self, obj: ApiKey) -> SafeString:
        return cells.link(self.url_of(obj), masked_key(obj, mode=obj.organization.mode))

    @shown("State")
    def works(self, obj: ApiKey) -> SafeString:
        return key_state(obj)
