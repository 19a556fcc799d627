"""Staff screen of our own people and their roles."""

from collections.abc import Sequence
from typing import Any, override

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.accounts import operations, roles
from apps.accounts.models import Staff, StaffScope
from apps.core.admin_base import (
    Act,
    StaffAdmin,
    Table,
    cells,
    shown,
)


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
