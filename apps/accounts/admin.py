"""Staff screens of accounts: who our clients are, their keys, and our own people."""

from collections.abc import Sequence
from typing import Any, ClassVar, override

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.accounts import operations, queries, roles
from apps.accounts.models import ApiKey, Organization, Staff, StaffScope
from apps.core import clock
from apps.core.admin_base import Act, Filter, RecordAdmin, StaffAdmin, Table, cells, lists, shown


@admin.register(Organization)
class OrganizationAdmin(RecordAdmin[Organization]):
    """Our clients."""

    view_capability = "accounts.view_customer"
    prefix = "org"
    scope_column = ""
    related: ClassVar[Sequence[str]] = ()
    intro = "Each live organization has a twin for its test data."
    empty = "There is no organization yet; make run brings a demo one."
    search_hint = "org_…"
    list_display = ("name_cell", "id", "kind", "time_zone", "created_at")
    facts = ("id", "kind", "time_zone", "created_at")
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("mode", [("live", "live"), ("test", "test")]),
    )

    @override
    def scope(self, request: HttpRequest, rows: QuerySet[Organization]) -> QuerySet[Organization]:
        return queries.for_staff(rows, request.user)  # type: ignore[arg-type]  # signed in

    @override
    def headline(self, obj: Organization) -> str:
        return str(obj)

    @override
    def lead(self, obj: Organization) -> Sequence[SafeString]:
        return [self.kind(obj)]

    @shown("Name")
    def name_cell(self, obj: Organization) -> SafeString:
        return cells.link(self.url_of(obj), obj)

    def kind(self, obj: Organization) -> SafeString:
        return cells.state(obj.mode)

    @override
    def get_tables(self, request: HttpRequest, obj: Organization) -> list[Table]:
        keys = list(queries.list_api_keys(organization_id=obj.id)[:20])
        return [
            Table(
                "API keys",
                ("Key", "Name", "Scopes", "Last used", "Expires", "State"),
                [
                    [
                        masked_key(key, mode=obj.mode),
                        cells.text(key.name),
                        cells.words(key.scopes),
                        cells.instant(key.last_used_at, zone=obj.time_zone),
                        cells.instant(key.expires_at, zone=obj.time_zone),
                        key_state(key),
                    ]
                    for key in keys
                ],
                empty="This organization has no key; nothing can call the API for it.",
            )
        ]


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


@admin.register(Staff)
class StaffScreen(StaffAdmin[Staff]):
    """Our people and what they may do."""

    view_capability = "accounts.manage_staff"
    scope_column = ""
    intro = "People and their roles. Nobody gives a role to themselves; a second admin decides."
    empty = "There is nobody yet."
    list_display = ("person", "email", "held", "sees", "active", "last_login")
    facts = ("email", "held", "sees", "active", "last_login", "created_at")

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[Staff]:
        scopes = Prefetch("scopes", StaffScope.objects.select_related("organization"))
        return super().get_queryset(request).prefetch_related("grants", scopes)

    @override
    def headline(self, obj: Staff) -> str:
        return obj.name

    @override
    def lead(self, obj: Staff) -> Sequence[SafeString]:
        return [self.active(obj)]

    def person(self, obj: Staff) -> SafeString:
        return cells.link(self.url_of(obj), obj.name)

    @shown("Roles")
    def held(self, obj: Staff) -> SafeString:
        return cells.words(sorted(grant.role.replace("_", " ") for grant in obj.grants.all()))

    def sees(self, obj: Staff) -> SafeString:
        if obj.sees_all_organizations:
            return cells.text("every organization")
        return cells.words([str(scope.organization) for scope in obj.scopes.all()])

    @shown("State")
    def active(self, obj: Staff) -> SafeString:
        return cells.state("active" if obj.is_active else "deactivated")

    @override
    def get_tables(self, request: HttpRequest, obj: Staff) -> list[Table]:
        held = {grant.role for grant in obj.grants.all()}
        rows = [roles.CAPABILITIES[name] for name in sorted(roles.capabilities_of(held))]
        return [
            Table(
                "What these roles give together",
                ("Capability", "In words", "How"),
                [[cells.code(row.name), cells.text(row.title), _how(row, held)] for row in rows],
                empty="No role, so nothing: this person sees the home page only.",
            )
        ]


def _how(row: roles.Capability, held: set[str]) -> SafeString:
    if row.full.isdisjoint(held):
        return cells.text("may ask, another decides")
    return cells.text("decides what others asked for" if row.two_people else "alone")
