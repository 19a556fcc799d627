"""The demo organisation: people, customers, ten days of bank statements, payouts on their way."""

import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Final
from uuid import UUID

from apps.accounts import operations as accounts
from apps.accounts.models import Customer, Organization, Staff
from apps.accounts.roles import Role
from apps.accounts.rules import CustomerDetails
from apps.approvals import operations as approvals
from apps.approvals import queries as approval_queries
from apps.approvals.states import Verdict
from apps.backoffice.management.story import cast, statements
from apps.banking import operations as banking
from apps.banking.operations import Holder
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import encode_id
from apps.core.money import Money, decimal_text
from apps.ledger import operations as ledger
from apps.ledger import queries as ledger_queries
from apps.ledger.operations import TransferRequest
from apps.payments import operations as payments
from apps.payouts import operations as payouts
from apps.payouts.operations import DestinationDetails, PayoutDetails
from apps.reconciliation import tasks as reconciliation
from apps.reconciliation.operations import OPENING_ACT

NAME: Final = "Northwind Trading"
DOMAIN: Final = "demo.kassa.test"
IBAN: Final = "DE02120300000000202051"
OPENING_MINOR: Final = 25_000_00
DAYS: Final = 10
EUR: Final = "EUR"
DEMO: Final = Actor.job("load_demo")
STAFF: Final = {
    "support": Role.SUPPORT,
    "maker": Role.FINANCE_MAKER,
    "approver": Role.FINANCE_APPROVER,
    "risk": Role.RISK_MANAGER,
    "auditor": Role.AUDITOR,
    "admin": Role.ADMIN,
}
PEOPLE: Final = (
    ("Ada Lovelace", "FI2112345600000785"),
    ("Bruno Baker", "NL91ABNA0417164300"),
    ("Chiara Conti", "IT60X0542811101000000123456"),
)
# In minor units: what each customer is paid on a day, in turn, and what nobody can explain.
_PAID: Final = (1_250_00, 480_00, 2_999_90, 75_50, 640_00, 1_800_00, 333_33)
_STRANGE: Final = {2: "Invoice 4711:99.50:Acme", 6: "Thank you:1250.00:J. Doe"}


@dataclass(frozen=True, slots=True)
class Demo:
    """What was made, for whoever signs in or calls the API."""

    organization_id: UUID
    token: str
    password: str
    logins: tuple[str, ...]
    debit_account: str
    credit_account: str


@dataclass(frozen=True, slots=True)
class _Customer:
    row: Customer
    reference: str
    account_id: UUID
    destination_id: UUID


def build(*, now: datetime) -> Demo:
    """Make it all by the operations that the API and the back office call."""
    organization = accounts.create_organization(
        name=NAME, time_zone="Europe/Berlin", actor=DEMO, now=now
    )
    password = secrets.token_urlsafe(15)
    staff = {login: _hire(login, role, password, now) for login, role in STAFF.items()}
    key = accounts.create_api_key(
        organization_id=organization.id,
        name="demo",
        scopes=sorted(cast.every_scope()),
        issued_by=staff["maker"].id,
        actor=DEMO,
        now=now,
    )
    accounts.add_contact(
        organization_id=organization.id,
        name="Operations",
        email=f"operations@{DOMAIN}",
        purposes=["technical", "security"],
        idempotency_key="demo-contact",
        actor=DEMO,
        now=now,
    )
    client = Actor("api_key", str(key.key.id), f"staff:{staff['maker'].id}")
    customers = [_customer(organization, who, iban, client, now) for who, iban in PEOPLE]
    _bank(organization, customers, staff, now)
    _move(organization, customers, client, now)
    _pay_out(organization, customers, client, now)
    return Demo(
        organization_id=organization.id,
        token=key.token,
        password=password,
        logins=tuple(f"{login}@{DOMAIN}" for login in STAFF),
        debit_account=encode_id("la", customers[0].account_id),
        credit_account=encode_id("la", customers[1].account_id),
    )


def _hire(login: str, role: Role, password: str, now: datetime) -> Staff:
    return accounts.create_staff(
        email=f"{login}@{DOMAIN}",
        name=f"{login.title()} Demo",
        password=password,
        role_names=[role],
        organization_ids=[],
        sees_all_organizations=True,
        actor=DEMO,
        now=now,
    )


def _customer(
    organization: Organization, name: str, iban: str, client: Actor, now: datetime
) -> _Customer:
    row = accounts.create_customer(
        organization_id=organization.id,
        details=CustomerDetails(
            name=name,
            email=f"{name.partition(' ')[0].lower()}@example.com",
            external_id=f"crm-{iban[-4:]}",
            currencies=[EUR],
        ),
        idempotency_key=f"demo-customer-{iban}",
        actor=client,
        now=now,
    )
    reference = payments.create_virtual_reference(
        organization_id=organization.id,
        customer_id=row.id,
        currency=EUR,
        idempotency_key=f"demo-reference-{iban}",
        actor=client,
        now=now,
    )
    destination = payouts.create_destination(
        organization_id=organization.id,
        details=DestinationDetails(customer_id=row.id, iban=iban, holder_name=name, currency=EUR),
        idempotency_key=f"demo-destination-{iban}",
        actor=client,
        now=now,
    )
    code = f"customers:{encode_id('cus', row.id)}:available:{EUR}"
    found = ledger_queries.account_ids(organization_id=organization.id, codes=[code])
    return _Customer(row, reference.reference, found[code], destination.id)


def _bank(
    organization: Organization,
    customers: Sequence[_Customer],
    staff: dict[str, Staff],
    now: datetime,
) -> None:
    """Import a statement for each of the last open days, and accept the opening balance."""
    cast.add_bank_account(
        organization_id=organization.id,
        identification=IBAN,
        currency=EUR,
        holder=Holder(name=NAME, town="Berlin", country="DE"),
        now=now,
    )
    amounts = cycle(_PAID)
    for place, day in enumerate(_open_days(now.date(), DAYS)):
        paying = [customers[place % 3], *([customers[(place + 1) % 3]] if place % 2 else [])]
        lines = [
            f"{one.reference}:{decimal_text(next(amounts), EUR)}:{PEOPLE[customers.index(one)][0]}"
            for one in paying
        ]
        if place in _STRANGE:
            lines.append(_STRANGE[place])
        _import(organization, day, lines, is_first=place == 0, now=now)
        if place == 0:
            _accept_opening(organization, staff, now)


def _open_days(today: date, count: int) -> list[date]:
    days: list[date] = []
    day = today
    while len(days) < count:
        day -= timedelta(days=1)
        if day.weekday() < 5:  # noqa: PLR2004  (Monday to Friday)
            days.insert(0, day)
    return days


def _import(
    organization: Organization, day: date, lines: list[str], *, is_first: bool, now: datetime
) -> None:
    with tempfile.TemporaryDirectory(prefix="kassa-demo-") as folder:
        content = statements.make_statement(
            iban=IBAN,
            currency=EUR,
            out=Path(folder) / "statement.xml",
            lines_in=lines,
            lines_out=["Rent:1450.00:Landlord"] if is_first else (),
            opening_minor=OPENING_MINOR if is_first else None,
            day=day,
        )
    banking.import_bank_file(
        organization_id=organization.id,
        content=content,
        name=f"statement-{day}.xml",
        actor=DEMO,
        now=now,
    )
    while reconciliation.match_due():
        pass


def _accept_opening(organization: Organization, staff: dict[str, Staff], now: datetime) -> None:
    for request in approval_queries.list_open_requests(organization_id=organization.id):
        if request.act == OPENING_ACT:
            approvals.decide_approval(
                organization_id=organization.id,
                request_id=request.id,
                verdict=Verdict.APPROVE,
                reason="agrees with the bank's letter",
                idempotency_key=f"demo-opening-{request.id}",
                actor=Actor.staff(staff["approver"].id),
                now=now,
            )


def _move(
    organization: Organization, customers: Sequence[_Customer], client: Actor, now: datetime
) -> None:
    for place in range(6):
        debit, credit = customers[place % 3], customers[(place + 1) % 3]
        ledger.post_transfer(
            organization_id=organization.id,
            transfer=TransferRequest(
                debit_account_id=debit.account_id,
                credit_account_id=credit.account_id,
                amount_minor=12_50 + 700 * place,
                currency=EUR,
                description="Shared lunch",
            ),
            idempotency_key=f"demo-transfer-{place}",
            actor=client,
            now=now,
        )


def _pay_out(
    organization: Organization, customers: Sequence[_Customer], client: Actor, now: datetime
) -> None:
    """Ask for payouts small enough to go by themselves, and large enough to need a person."""
    for place, amount in enumerate((250_00, 1_100_00, 75_00, 1_500_00, 180_00)):
        customer = customers[place % 3]
        try:
            payouts.request_payout(
                organization_id=organization.id,
                details=PayoutDetails(
                    customer_id=customer.row.id,
                    destination_id=customer.destination_id,
                    money=Money(amount, EUR),
                    remittance=f"Payout {place + 1}",
                ),
                idempotency_key=f"demo-payout-{place}",
                actor=client,
                now=now,
            )
        except Refusal as refusal:
            # The demo's own limits may say no; what was refused is shown as such.
            if refusal.code not in {"limit_exceeded", "insufficient_funds"}:
                raise
