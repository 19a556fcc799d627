"""Tenants, customers and staff for tests of payouts, approvals and risk."""

from uuid import UUID

from django.utils import timezone

from apps.accounts.models import Staff, StaffRole
from apps.core import transactions
from apps.core.actors import Actor
from tests.accounts import factories as accounts


def organization(name=""):
    return accounts.create_organization(name=name)


def customer(owner):
    return accounts.create_customer(owner, currencies=())


def staff(*roles):
    return Actor.staff(accounts.create_staff(*roles).pk)


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
