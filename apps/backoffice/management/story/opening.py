"""The first chapter: an organisation and everybody in it."""

import httpx

from apps.backoffice.management.story import cast as casting
from apps.backoffice.management.story import statements
from apps.backoffice.management.story.plot import (
    ADA_IBAN,
    BOB_IBAN,
    EUR,
    Customer,
    Story,
)
from apps.banking import operations as banking
from apps.banking.models import BankAccount
from apps.banking.operations import Holder
from apps.core import clock
from apps.core.ids import encode_id


def gather(story: Story, name: str, content: bytes | None) -> None:
    teller, api = story.teller, story.api
    teller.chapter(
        "An organisation, its key, its customers, its bank account, its webhook endpoint"
    )
    me = api.get("/v1/me")
    teller.fact(f"{me['organization']['name']}, {me['organization']['id']}, with an API key")
    for who, iban in (("Ada Lovelace", ADA_IBAN), ("Bob Noyce", BOB_IBAN)):
        story.customers.append(_customer(story, who, iban))
    found = statements.account_of(content, name=name) if content is not None else None
    identification = found.identification if found else statements.OWN_IBAN
    currency = found.currency if found else EUR
    story.iban = identification
    story.account = casting.add_bank_account(
        organization_id=story.organization_id,
        identification=identification,
        currency=currency,
        holder=Holder(name="Northwind Trading", town="Berlin", country="DE"),
        now=clock.now(),
    )
    _forget_earlier_files(story, story.account)
    teller.fact(f"Bank account {encode_id('ba', story.account.id)} in {currency}")
    endpoint = api.post(
        "/v1/webhook_endpoints",
        {"url": story.hook_url, "event_types": ["*"], "description": "the story's receiver"},
        key="endpoint",
    )
    story.received.secret = endpoint["secret"]
    teller.fact(f"Webhook endpoint {endpoint['id']}, secret shown once")


def _forget_earlier_files(story: Story, account: BankAccount) -> None:
    """A bank that told the story of this account before is not to tell it again."""
    last = 0
    while files := httpx.get(f"{story.bank.url}/bank/files?after={last}", timeout=10).json()[
        "files"
    ]:
        last = files[-1]["id"]
    banking.advance_connection(
        organization_id=story.organization_id, connection_id=account.connection_id, up_to=last
    )


def _customer(story: Story, name: str, iban: str) -> Customer:
    first = name.partition(" ")[0].lower()
    made = story.api.post(
        "/v1/customers",
        {"name": name, "email": f"{first}@example.com", "currencies": [EUR]},
        key=f"customer-{first}",
    )
    reference = story.api.post(
        "/v1/virtual_references",
        {"customer": made["id"], "currency": EUR},
        key=f"reference-{first}",
    )
    page = story.api.get("/v1/ledger-accounts", code=f"customers:{made['id']}:available:{EUR}")
    [account] = page["data"]
    story.teller.fact(f"{name}, {made['id']}, is paid under {reference['reference']}")
    return Customer(made["id"], name, reference["reference"], account["id"], iban)
