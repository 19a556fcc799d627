"""Books with money for plain transfers, and what asks for one."""

from uuid import UUID

from apps.core.errors import Refusal
from apps.ledger import operations
from apps.ledger.operations import TransferRequest
from apps.ledger.rules import COUNTER_MAX
from tests.ledger.factories import (
    ACTOR,
    NOW,
    create_organization,
    fund,
    open_account,
)
from tests.ledger.threads import sql
from tests.support import past_the_guards


def make_books():
    """An organization, two wallets, and 100.00 on the first."""
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR")
    bob = open_account(organization, "wallets:bob:EUR")
    fund(organization, ann, 100_00)
    return organization, ann, bob


def make_three():
    """An organization, three wallets, and 100.00 on the first."""
    organization = create_organization()
    wallets = [open_account(organization, f"wallets:{name}:EUR") for name in ("ann", "bob", "cy")]
    fund(organization, wallets[0], 100_00)
    return organization, *wallets


def leave_room(account, amount):
    """Let so much more move over either side of an account before its counters are full."""
    full = COUNTER_MAX - amount
    past_the_guards(
        "UPDATE ledger_balance SET min_available_minor = NULL,"
        f" posted_debits = {full}, posted_credits = {full} WHERE id = '{account}'"
    )


def ask(organization, asked):
    """Ask for them together, as the express lane does; return what each was answered."""
    operations.post_asked(organization_id=organization, asked=asked)
    return [operations.take_result(one) for one in asked]


def outcome_of(one):
    """What a ticket was answered, without what each run has of its own; of a replay None."""
    try:
        outcome = operations.take_result(one).outcome
    except Refusal as refusal:
        return refusal.code, sorted(refusal.details)
    return outcome and [line[1:] for line in outcome.lines]


def ticket(debit: UUID, credit: UUID, amount: int = 1, *, key: str = "k", **more: object):
    at = more.pop("now", NOW)
    request = TransferRequest(
        debit_account_id=debit, credit_account_id=credit, amount_minor=amount,
        **{"currency": "EUR", **more},
    )  # fmt: skip
    return operations.ask_transfer(transfer=request, idempotency_key=key, actor=ACTOR, now=at)


def waiting() -> list[tuple[str]]:
    """Return the statements on this database that wait for a lock."""
    return sql(
        "SELECT query FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
