"""Who takes part: an organisation, its staff, its key, its bank account, its customers."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.urls import get_resolver

from apps.accounts import operations as accounts
from apps.accounts.models import Organization, Staff
from apps.accounts.roles import Role
from apps.banking import operations as banking
from apps.banking.models import BankAccount
from apps.banking.operations import Holder
from apps.core.actors import Actor
from apps.core.api.caller import declared_scopes

TELLER = Actor.job("journey")


@dataclass(frozen=True, slots=True)
class Cast:
    """One organisation and those who act for it. Maker and approver are different people."""

    organization: Organization
    maker: Staff
    approver: Staff
    token: str

    @property
    def organization_id(self) -> UUID:
        return self.organization.id


def gather(*, name: str, now: datetime) -> Cast:
    """Create the organisation, its two members of staff, and an API key with every scope."""
    organization = accounts.create_organization(
        name=name, time_zone="Europe/Berlin", actor=TELLER, now=now
    )
    maker = _hire("maker", Role.FINANCE_MAKER, now=now)
    approver = _hire("approver", Role.FINANCE_APPROVER, now=now)
    key = accounts.create_api_key(
        organization_id=organization.id,
        name="journey",
        scopes=sorted(every_scope()),
        issued_by=maker.id,
        actor=TELLER,
        now=now,
    )
    return Cast(organization, maker, approver, key.token)


def _hire(login: str, role: Role, *, now: datetime) -> Staff:
    return accounts.create_staff(
        email=f"{login}.{secrets.token_hex(4)}@journey.example",
        name=f"Journey {login}",
        password=secrets.token_urlsafe(24),
        role_names=[role],
        organization_ids=[],
        sees_all_organizations=True,
        actor=TELLER,
        now=now,
    )


def every_scope() -> frozenset[str]:
    """Return every scope that some route asks for."""
    _ = get_resolver().url_patterns  # views declare their scopes when they are loaded
    return declared_scopes()


def add_bank_account(
    *, organization_id: UUID, identification: str, currency: str, holder: Holder, now: datetime
) -> BankAccount:
    """Connect the sandbox bank, and add the organisation's account there."""
    connection = banking.add_bank_connection(
        organization_id=organization_id,
        name="Sandbox bank",
        channel="sandbox",
        idempotency_key="bank-connection",
        actor=TELLER,
        now=now,
    )
    return banking.add_bank_account(
        organization_id=organization_id,
        connection_id=connection.id,
        name=f"Main account, {currency}",
        identification=identification,
        currency=currency,
        holder=holder,
        idempotency_key=f"bank-account-{currency}",
        actor=TELLER,
        now=now,
    )
