"""Customers with a reference, imported statements, and matching as a worker does it."""

from dataclasses import replace

from apps.accounts import operations as accounts
from apps.accounts.rules import CustomerDetails
from apps.core import invariants, work, working
from apps.core.ids import encode_id, new_id
from apps.ledger import queries as ledger
from apps.payments import operations as payments
from apps.reconciliation import operations
from apps.reconciliation.tasks import MATCHING
from tests.banking.factories import ACTOR, NOW


def create_customer(organization_id, name="Ada Lovelace", currencies=("EUR",)):
    return accounts.create_customer(
        organization_id=organization_id,
        details=CustomerDetails(name=name, currencies=list(currencies)),
        idempotency_key=f"customer-{new_id()}",
        actor=ACTOR,
        now=NOW,
    )


def create_reference(customer, currency="EUR"):
    return payments.create_virtual_reference(
        organization_id=customer.organization_id,
        customer_id=customer.id,
        currency=currency,
        idempotency_key=f"reference-{new_id()}",
        actor=ACTOR,
        now=NOW,
    )


def match_all(**more):
    """Match every account that is due, as the worker's task does; return matched, in suspense."""
    total = operations.Progress()

    def match(queue):
        nonlocal total
        progress = operations.match_bank_lines(
            organization_id=queue.organization_id, queue=queue, actor=ACTOR, now=NOW, **more
        )
        total = total.plus(progress)
        return None if progress.is_done else work.mark_continued

    working.run(replace(MATCHING, perform=match))
    return total.matched, total.in_suspense


def available(customer, currency="EUR"):
    code = f"customers:{encode_id('cus', customer.id)}:available:{currency}"
    ids = ledger.account_ids(organization_id=customer.organization_id, codes=[code])
    return ledger.get_balance(
        organization_id=customer.organization_id, account_id=ids[code]
    ).available


def posted(organization_id, code):
    """Return an account's posted balance by its code, or by a bank account's branch; 0 if none."""
    branch = ledger.accounts(
        organization_id=organization_id, search=ledger.AccountSearch(code_prefix=code)
    )
    ids = [account.id for account in branch]
    views = ledger.list_balances(organization_id=organization_id, ids=ids)
    return sum(view.posted for view in views)


def assert_books_hold(*labels):
    """Assert that no invariant of these apps, or of all, is broken."""
    only = frozenset(labels) or frozenset({"ledger", "banking", "payments", "reconciliation"})
    found = [
        breach
        for _, breach in invariants.check(invariants.collect(only_apps=only))
        if breach is not None
    ]
    assert found == []
