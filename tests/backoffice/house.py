"""The house that the staff screens are tried on: its people, its account, and its customers."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apps.accounts import operations as accounts
from apps.accounts.models import Customer, Organization, Staff
from apps.accounts.rules import CustomerDetails
from apps.banking import operations as banking
from apps.banking.models import BankAccount
from apps.banking.operations import Holder
from apps.core import clock
from apps.core.actors import Actor
from apps.payments import operations as payments
from apps.payouts import operations as payouts
from apps.payouts.operations import DestinationDetails

PASSWORD = "kassa-demo-password"
OUR_IBAN = "DE89370400440532013000"
IBANS = (
    "DE75512108001245126199",
    "FR1420041010050500013M02606",
    "NL91ABNA0417164300",
    "ES9121000418450200051332",
    "AT611904300234573201",
    "BE68539007547034",
)
NAMES = (
    "Lena Fischer",
    "Jonas Berg",
    "Nordwind Handel GmbH",
    "Marta Kowalska",
    "Atelier Dupont SARL",
    "Sanna Virtanen",
)
PEOPLE = {
    "mara": ("Mara Lind", ("finance_maker",)),
    "anton": ("Anton Weiss", ("finance_approver",)),
    "noor": ("Noor Haddad", ("finance_maker", "finance_approver")),
    "sofia": ("Sofia Rey", ("support",)),
    "rosa": ("Rosa Vidal", ("support_readonly",)),
    "liam": ("Liam Okafor", ("support_lead",)),
    "iris": ("Iris Chen", ("risk_analyst",)),
    "milo": ("Milo Brandt", ("risk_manager",)),
    "cora": ("Cora Lenz", ("compliance",)),
    "ada": ("Ada Quist", ("auditor",)),
    "bo": ("Bo Eriksen", ("admin",)),
    "nell": ("Nell Ahrens", ()),
}
CONTACT_NAME = "Petra Holm"
CONTACT_EMAIL = "petra.holm@demo-markets.example"
JOB = Actor.job("demo")


@dataclass
class House:
    """Everything a test asks for by name."""

    organization: Organization
    people: dict[str, Staff]
    bank_account: BankAccount
    key: Actor
    customers: list[Customer] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    destinations: list[Any] = field(default_factory=list)
    payouts: dict[str, Any] = field(default_factory=dict)
    closing: int = 0
    statements: int = 0

    @property
    def id(self):
        return self.organization.id

    def actor(self, name):
        return Actor.staff(self.people[name].pk)


def make_house(now: datetime) -> House:
    organization = accounts.create_organization(
        name="Demo Markets", time_zone="Europe/Berlin", actor=JOB, now=now
    )
    people = {
        login: accounts.create_staff(
            email=f"{login}@kassa.test",
            name=name,
            password=PASSWORD,
            role_names=roles,
            organization_ids=[],
            sees_all_organizations=True,
            actor=JOB,
            now=now,
        )
        for login, (name, roles) in PEOPLE.items()
    }
    issued = accounts.create_api_key(
        organization_id=organization.id,
        name="Storefront",
        scopes=["payouts:write", "payouts:read", "customers:write", "customers:read"],
        issued_by=people["mara"].id,
        actor=JOB,
        now=clock.now(),
    )
    banking.seed_calendar(now=clock.now())
    connection = banking.add_bank_connection(
        organization_id=organization.id,
        name="Handelsbank",
        channel="manual",
        idempotency_key="demo-connection",
        actor=JOB,
        now=now,
    )
    account = banking.add_bank_account(
        organization_id=organization.id,
        connection_id=connection.id,
        name="Main account",
        identification=OUR_IBAN,
        currency="EUR",
        holder=Holder(name="Demo Markets GmbH", town="Berlin", country="DE"),
        bic="COBADEFFXXX",
        idempotency_key="demo-account",
        actor=JOB,
        now=now,
    )
    key = Actor("api_key", str(issued.key.id), f"staff:{people['mara'].pk}")
    return House(organization, people, account, key)


def add_customer(house: House, number: int, now: datetime) -> None:
    name = NAMES[number]
    customer = accounts.create_customer(
        organization_id=house.id,
        details=CustomerDetails(
            name=name,
            email=f"{name.split()[0].lower()}@example.com",
            external_id=f"merchant-{1001 + number}",
            currencies=["EUR"],
        ),
        idempotency_key=f"demo-customer-{number}",
        actor=house.key,
        now=now,
    )
    reference = payments.create_virtual_reference(
        organization_id=house.id,
        customer_id=customer.id,
        currency="EUR",
        idempotency_key=f"demo-reference-{number}",
        actor=house.key,
        now=now,
    )
    destination = payouts.create_destination(
        organization_id=house.id,
        details=DestinationDetails(
            customer_id=customer.id, iban=IBANS[number], holder_name=name, currency="EUR"
        ),
        idempotency_key=f"demo-destination-{number}",
        actor=house.key,
        now=now,
    )
    house.customers.append(customer)
    house.references.append(reference.reference)
    house.destinations.append(destination)
