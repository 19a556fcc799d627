"""Staff screens of accounts: our clients, their contacts and keys, and our own people."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, override

from django import forms
from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.accounts import operations, queries, roles
from apps.accounts.models import ApiKey, Contact, Organization, Staff, StaffScope
from apps.accounts.rules import masked_email, masked_name
from apps.accounts.states import Purpose
from apps.core import clock
from apps.core.admin_base import (
    Act,
    ActForm,
    Filter,
    RecordAdmin,
    StaffAdmin,
    Table,
    cells,
    lists,
    shown,
    zone_of,
)

ROWS_SHOWN: Final = 20


class AddContactForm(ActForm):
    """Who is told, where, and about what."""

    name = forms.CharField(max_length=200)
    email = forms.EmailField(label="E-mail")
    purposes = forms.MultipleChoiceField(
        choices=Purpose, label="Is told about", widget=forms.CheckboxSelectMultiple
    )


class ChangeContactForm(ActForm):
    """What is left empty stays: what is known of a contact stands in clear in no form."""

    name = forms.CharField(
        max_length=200, required=False, empty_value=None, help_text="Empty: as it is."
    )
    email = forms.EmailField(
        label="E-mail", required=False, empty_value=None, help_text="Empty: as it is."
    )
    purposes = forms.MultipleChoiceField(
        choices=Purpose, label="Is told about", widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.fields["purposes"].initial = self.subject.purposes


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
    acts = (
        Act(
            name="add_contact",
            capability="accounts.edit_contact",
            operation=operations.add_contact,
            form=AddContactForm,
            subject="organization_id",
            label=lambda _organization: "Add a contact",
            done=lambda _result: "Added. They are told from now on.",
            presets=("The client asked for it.",),
            note="Somebody at this organization who gets e-mail about what concerns it.",
        ),
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
        keys = list(queries.list_api_keys(organization_id=obj.id)[:ROWS_SHOWN])
        return [
            _contacts(obj),
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
            ),
        ]


def _contacts(organization: Organization) -> Table:
    rows = list(queries.list_contacts(organization_id=organization.id)[:ROWS_SHOWN])
    known = queries.unseal_contacts(rows)
    return Table(
        "Contacts",
        ("Contact", "Name", "E-mail", "Is told about"),
        [
            [
                cells.row_link("accounts_contact", ContactAdmin.prefix, one.id),
                cells.text(masked_name(known[one.id].name)),
                cells.text(masked_email(known[one.id].email)),
                cells.words(one.purposes),
            ]
            for one in rows
        ],
        empty="This organization has no contact; nobody gets e-mail about it.",
    )


def _is_removed(contact: Contact, _user: Any) -> str:  # noqa: ANN401  (the signed-in person)
    return "It was removed." if contact.removed_at is not None else ""


@admin.register(Contact)
class ContactAdmin(RecordAdmin[Contact]):
    """Whom our clients have us tell, and what they were told."""

    view_capability = "accounts.view_customer"
    prefix = "con"
    intro = "Whom our clients have us tell by e-mail. Names and addresses are masked here."
    empty = "No organization has a contact yet; one is added on the organization's page."
    search_hint = "con_…"
    list_display = ("id", "organization", "name", "email", "purposes", "works")
    facts = (*list_display, "created_at", "removed_at")
    acts = (
        Act(
            name="change",
            capability="accounts.edit_contact",
            operation=operations.change_contact,
            form=ChangeContactForm,
            label=lambda _contact: "Change this contact",
            off=_is_removed,
            done=lambda _result: "Changed.",
            presets=("The client asked for it.",),
        ),
        Act(
            name="remove",
            capability="accounts.edit_contact",
            operation=operations.remove_contact,
            label=lambda _contact: "Remove this contact",
            off=_is_removed,
            done=lambda _result: "Removed. Name and address are forgotten.",
            presets=("The client asked for it.", "Mail to it comes back."),
            is_dangerous=True,
            note="Nothing more is sent to it, and its name and address are forgotten for good.",
        ),
    )

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[Contact]) -> None:
        known = queries.unseal_contacts(rows)
        for row in rows:
            row.known = known.get(row.id)  # type: ignore[attr-defined]  # for the cells

    @override
    def lead(self, obj: Contact) -> Sequence[SafeString]:
        return [self.works(obj)]

    def name(self, obj: Contact) -> SafeString:
        known = obj.known  # type: ignore[attr-defined]  # by prepare
        return cells.text(masked_name(known.name)) if known else cells.NONE

    @shown("E-mail")
    def email(self, obj: Contact) -> SafeString:
        known = obj.known  # type: ignore[attr-defined]  # by prepare
        return cells.text(masked_email(known.email)) if known else cells.NONE

    @shown("State")
    def works(self, obj: Contact) -> SafeString:
        return cells.state("active" if obj.removed_at is None else "removed")

    @override
    def get_tables(self, request: HttpRequest, obj: Contact) -> list[Table]:
        rows = queries.list_mails(organization_id=obj.organization_id, contact_id=obj.id)
        zone = zone_of(obj)
        return [
            Table(
                "Latest e-mails",
                ("Subject", "About", "State", ">Attempts", "Code", "Written", "Sent"),
                [
                    [
                        cells.text(mail.subject),
                        cells.cut(mail.about),
                        cells.state(mail.state),
                        cells.number(mail.attempts),
                        cells.code(mail.last_error_code),
                        cells.instant(mail.created_at, zone=zone),
                        cells.instant(mail.sent_at, zone=zone),
                    ]
                    for mail in rows[:ROWS_SHOWN]
                ],
                empty="Nothing happened yet that this contact is told about.",
                note="what was sent is kept for 90 days",
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


def _staff_is_shut_out(person: Staff, _user: Any) -> str:  # noqa: ANN401  (the signed-in person)
    return "" if person.is_active else "This person is deactivated."


def _deactivate_is_off(person: Staff, user: Any) -> str:  # noqa: ANN401  (the signed-in person)
    if person.pk == user.pk:
        return "Nobody shuts themselves out."
    return _staff_is_shut_out(person, user)


@admin.register(Staff)
class StaffScreen(StaffAdmin[Staff]):
    """Our people and what they may do."""

    view_capability = "accounts.manage_staff"
    scope_column = ""
    intro = "People and their roles. Nobody gives a role to themselves; a second admin decides."
    empty = "There is nobody yet."
    list_display = ("person", "email", "held", "sees", "active", "last_login")
    facts = ("email", "held", "sees", "active", "last_login", "created_at")
    acts = (
        Act(
            name="end_sessions",
            capability="accounts.manage_staff",
            operation=operations.end_sessions,
            label=lambda person: f"End the sessions of {person.name}",
            off=_staff_is_shut_out,
            done=lambda _result: "Ended. The next request of each leads to the sign-in.",
            presets=("A device was lost.", "A session was open where nobody sat."),
            note="All of them, wherever they are. The password and the roles stay as they are.",
        ),
        Act(
            name="deactivate",
            capability="accounts.manage_staff",
            operation=operations.deactivate_staff,
            label=lambda person: f"Deactivate {person.name}",
            off=_deactivate_is_off,
            done=lambda _result: "Deactivated. No password signs this person in any more.",
            presets=("Left the company.",),
            is_dangerous=True,
            note="Their sessions end at once, and what they agreed to and is open counts no more.",
        ),
    )

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
