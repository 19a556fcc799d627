"""Members of staff and their roles. Nobody gives themselves anything."""

from collections.abc import Collection
from datetime import datetime
from itertools import combinations
from typing import Final
from uuid import UUID

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from apps.accounts import errors, queries, roles, rules
from apps.accounts.models import Staff, StaffRole, StaffScope
from apps.core import audit, transactions
from apps.core.actors import Actor

FIRST_ADMINS: Final = 2


@transactions.outermost
def create_first_admin(*, email: str, name: str, password: str, now: datetime) -> Staff:
    """
    Create one of the first two admins, from the machine's own terminal; later ones need two people.

    :raises AdminsExist: if there are two
    :raises WeakPassword: if the password is short, common, or like the name
    :raises EmailTaken: if somebody has this e-mail
    """
    if queries.count_admins() >= FIRST_ADMINS:
        raise errors.AdminsExist("There are two admins; they make the others.")
    return _create(
        email=email,
        name=name,
        password=password,
        role_names=[roles.Role.ADMIN],
        actor=Actor.job("create_staff"),
        now=now,
    )


@transactions.outermost
def create_staff(
    *,
    email: str,
    name: str,
    password: str,
    role_names: Collection[str] = (),
    organization_ids: Collection[UUID] = (),
    sees_all_organizations: bool = False,
    actor: Actor,
    now: datetime,
) -> Staff:
    """
    Create a member of staff. Only a job, such as the demo's, gives roles on the way.

    :raises WeakPassword: if the password is short, common, or like the name
    :raises EmailTaken: if somebody has this e-mail
    :raises RolePairRefused: if two of the roles do not go together
    :raises OwnRole: if a person gives roles here: a grant needs a second admin
    :raises CapabilityMissing: if the actor is staff without `accounts.manage_staff`
    """
    queries.require_capability(actor=actor, capability="accounts.manage_staff")
    if role_names and actor.kind != "job":
        raise errors.OwnRole("A role is asked for by one admin and granted by another.")
    staff = _create(
        email=email,
        name=name,
        password=password,
        role_names=role_names,
        sees_all_organizations=sees_all_organizations,
        actor=actor,
        now=now,
    )
    StaffScope.objects.bulk_create(
        StaffScope(organization_id=id_, staff=staff, granted_by=str(actor), granted_at=now)
        for id_ in organization_ids
    )
    return staff


def _create(
    *,
    email: str,
    name: str,
    password: str,
    role_names: Collection[str],
    sees_all_organizations: bool = False,
    actor: Actor,
    now: datetime,
) -> Staff:
    staff = Staff(
        email=email.strip().lower(),
        name=name,
        sees_all_organizations=sees_all_organizations,
        created_at=now,
    )
    _check_password(password, staff)
    _check_pairs(role_names)
    staff.set_password(password)
    # Two may race for one e-mail: the first insert wins, the other finds no row of its own.
    Staff.objects.bulk_create([staff], ignore_conflicts=True)
    if not Staff.objects.filter(id=staff.id).exists():
        raise errors.EmailTaken("Somebody has this e-mail.")
    StaffRole.objects.bulk_create(
        StaffRole(staff=staff, role=role, granted_by=str(actor), granted_at=now)
        for role in sorted(set(role_names))
    )
    audit.record(
        "accounts.manage_staff",
        staff,
        actor=actor,
        reason="created",
        after={"roles": sorted(role_names), "sees_all_organizations": sees_all_organizations},
    )
    return staff


@transactions.outermost
def grant_role(
    *, staff_id: UUID, role: str, reason: str, requested_by: Actor, actor: Actor, now: datetime
) -> None:
    """
    Give a person a role that one admin asked for and another grants; their sessions end.

    A role already held changes nothing.

    :raises OwnRole: unless requester, decider and subject are three people
    :raises CapabilityMissing: if requester or decider is not an admin
    :raises RolePairRefused: if it does not go with a role already held
    :raises StaffNotFound: if there is no such person
    """
    _require_three_people(staff_id, requested_by, actor, capability="accounts.grant_role")
    staff = queries.get_staff_for_update(staff_id=staff_id)
    held = queries.list_roles(staff_id=staff_id)
    if role in held:
        return
    _check_pairs([*held, role])
    StaffRole.objects.create(staff=staff, role=role, granted_by=str(actor), granted_at=now)
    _raise_access_version(staff)
    audit.record(
        "accounts.grant_role",
        staff,
        actor=actor,
        reason=reason,
        before={"roles": sorted(held)},
        after={"roles": sorted({*held, role}), "requested_by": requested_by.principal},
    )


@transactions.outermost
def revoke_role(
    *, staff_id: UUID, role: str, reason: str, requested_by: Actor, actor: Actor
) -> None:
    """
    Take a role away, asked for by one admin and decided by another; the person's sessions end.

    A role not held changes nothing.

    :raises OwnRole: unless requester, decider and subject are three people
    :raises CapabilityMissing: if requester or decider is not an admin
    :raises StaffNotFound: if there is no such person
    """
    _require_three_people(staff_id, requested_by, actor, capability="accounts.revoke_role")
    staff = queries.get_staff_for_update(staff_id=staff_id)
    held = queries.list_roles(staff_id=staff_id)
    if role not in held:
        return
    StaffRole.objects.filter(staff=staff, role=role).delete()
    _raise_access_version(staff)
    audit.record(
        "accounts.revoke_role",
        staff,
        actor=actor,
        reason=reason,
        before={"roles": sorted(held)},
        after={"roles": sorted(held - {role}), "requested_by": requested_by.principal},
    )


@transactions.outermost
def deactivate_staff(*, staff_id: UUID, reason: str, actor: Actor) -> None:
    """
    Shut a person out; their sessions end at their next request. Again changes nothing.

    :raises OwnRole: if people try it on themselves
    :raises CapabilityMissing: if the actor is staff without `accounts.manage_staff`
    :raises StaffNotFound: if there is no such person
    """
    queries.require_capability(actor=actor, capability="accounts.manage_staff")
    if actor.principal == f"staff:{staff_id}":
        raise errors.OwnRole("Nobody shuts themselves out.")
    staff = queries.get_staff_for_update(staff_id=staff_id, beside=actor)
    # Again under the locks: whoever shut the actor out meanwhile came first.
    queries.require_capability(actor=actor, capability="accounts.manage_staff")
    if not staff.is_active:
        return
    staff.is_active = False
    staff.save(update_fields=["is_active"])
    _raise_access_version(staff)
    audit.record(
        "accounts.manage_staff",
        staff,
        actor=actor,
        reason=reason,
        before={"is_active": True},
        after={"is_active": False},
    )


@transactions.outermost
def end_sessions(*, staff_id: UUID, reason: str, actor: Actor) -> None:
    """
    End every session of a person, at its next request.

    :raises CapabilityMissing: if the actor is somebody else without `accounts.manage_staff`
    :raises StaffNotFound: if there is no such person
    """
    if actor.principal != f"staff:{staff_id}":
        queries.require_capability(actor=actor, capability="accounts.manage_staff")
    staff = queries.get_staff_for_update(staff_id=staff_id)
    _raise_access_version(staff)
    audit.record(
        "accounts.manage_staff",
        staff,
        actor=actor,
        reason=reason,
        after={"sessions": "ended"},
    )


def _require_three_people(
    staff_id: UUID, requested_by: Actor, actor: Actor, *, capability: str
) -> None:
    if len({f"staff:{staff_id}", requested_by.principal, actor.principal}) != 3:  # noqa: PLR2004
        raise errors.OwnRole("Who asks, who decides and whose role it is are three people.")
    for person in (requested_by, actor):
        queries.require_capability(actor=person, capability=capability)


def _raise_access_version(staff: Staff) -> None:
    staff.access_version += 1
    staff.save(update_fields=["access_version"])


def _check_password(password: str, staff: Staff) -> None:
    try:
        validate_password(password, user=staff)
    except ValidationError as weak:
        raise errors.WeakPassword(" ".join(weak.messages)) from None
    if rules.is_guessable_password(password):
        raise errors.WeakPassword("This is one of the first things anybody would try.")


def _check_pairs(role_names: Collection[str]) -> None:
    for one, other in combinations(sorted(set(role_names)), 2):
        if roles.is_refused_pair(one, other):
            raise errors.RolePairRefused(
                f"Nobody is both {one} and {other}.", roles=[str(one), str(other)]
            )
