"""Tenants, customers and staff for tests of payouts, approvals and risk."""

from functools import partial
from uuid import UUID

from django.utils import timezone

from apps.accounts.models import Customer, Organization, Staff, StaffRole
from apps.core import encryption, transactions
from apps.core.actors import Actor
from apps.core.ids import new_id


def organization(name="Acme"):
    row = Organization.objects.create(name=name, mode="live", created_at=timezone.now())
    in_transaction(partial(encryption.create_data_key, organization_id=row.id))
    return row


def customer(owner, name="Ada"):
    id_ = new_id()
    return Customer.objects.create(
        id=id_,
        organization=owner,
        name_sealed=encryption.seal(owner.id, "accounts_customer.name", id_, name),
        created_at=timezone.now(),
    )


def staff(*roles):
    person = Staff.objects.create(
        email=f"{new_id().hex}@kassa.test",
        name="Somebody",
        sees_all_organizations=True,
        created_at=timezone.now(),
    )
    StaffRole.objects.bulk_create(
        StaffRole(staff=person, role=role, granted_by="test", granted_at=timezone.now())
        for role in roles
    )
    return Actor.staff(person.pk)


def approver():
    return staff("finance_approver")


def deactivate(actor):
    Staff.objects.filter(pk=UUID(actor.id)).update(is_active=False)


@transactions.outermost
def in_transaction(call):
    """Run a part of an operation, as the operation that composes it would."""
    return call()


def staff_of(principal):
    """Return the person behind a principal as the actor, an approver besides."""
    person = principal.removeprefix("staff:")
    StaffRole.objects.create(
        staff_id=person, role="finance_approver", granted_by="test", granted_at=timezone.now()
    )
    return Actor.staff(person)
