"""Organisations with a bank account, made by the operations themselves."""

from datetime import UTC, datetime
from uuid import UUID

from apps.accounts.models import Organization
from apps.banking import operations
from apps.banking.models import BankAccount
from apps.banking.operations import Holder
from apps.core import encryption, transactions
from apps.core.actors import Actor
from apps.core.ids import new_id
from tests.banking.statements import IBAN

NOW = datetime(2026, 3, 3, 6, 30, tzinfo=UTC)
ACTOR = Actor.job("tests")
HOLDER = Holder(name="Northwind Ltd", town="Berlin", country="DE")


@transactions.outermost
def create_organization(name: str = "Northwind") -> UUID:
    row = Organization.objects.create(id=new_id(), name=name, mode="live", created_at=NOW)
    encryption.create_data_key(organization_id=row.id)
    return row.id


def create_bank_account(
    organization_id: UUID,
    *,
    identification: str = IBAN,
    currency: str = "EUR",
    channel: str = "manual",
) -> BankAccount:
    connection = operations.add_bank_connection(
        organization_id=organization_id,
        name="Our bank",
        channel=channel,
        idempotency_key=f"connection-{new_id()}",
        actor=ACTOR,
        now=NOW,
    )
    return operations.add_bank_account(
        organization_id=organization_id,
        connection_id=connection.id,
        name="Main",
        identification=identification,
        currency=currency,
        holder=HOLDER,
        idempotency_key=f"account-{new_id()}",
        actor=ACTOR,
        now=NOW,
    )


def import_file(organization_id: UUID, content: bytes, **more: object):
    more = {"name": "day.xml", "actor": ACTOR, "now": NOW, **more}
    return operations.import_bank_file(organization_id=organization_id, content=content, **more)
