"""Staff screens of our clients and of those people at them whom we write to."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, override

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.accounts import operations, queries
from apps.accounts.admin._keys import key_state, masked_key
from apps.accounts.models import Contact, Organization
from apps.accounts.rules import masked_email, masked_name
from apps.accounts.states import Purpose
from apps.core.admin_base import (
    Act,
    ActForm,
    Filter,
    RecordAdmin,
    Table,
    cells,
    lists,
    shown,
    zone_of,
)

ROWS_SHOWN: Final = 20


class AddContactForm(ActForm):
    """Who is told, where, and about what."""

    is_private = True
    name = forms.CharField(max_length=200)
    email = forms.EmailField(label="E-mail")
    purposes = forms.MultipleChoiceField(
        choices=Purpose, label="Is told about", widget=forms.CheckboxSelectMultiple
    )


class ChangeContactForm(ActForm):
    """What is left empty stays: what is known of a contact stands in clear in no form."""

    is_private = True
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
