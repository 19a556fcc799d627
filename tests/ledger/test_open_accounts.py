"""Opening ledger accounts: once each, by whom ever, and each is told of."""

from functools import partial

import pytest

from apps.core.ids import encode_id
from apps.core.invariants import breaches
from apps.core.models import OutboxEvent
from apps.ledger import operations
from apps.ledger.models import LedgerAccount
from apps.ledger.operations import AccountSpec
from tests.ledger.factories import NOW, committed, create_organization, open_account
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

BOTH = (
    AccountSpec("fees:bank:EUR", "expense", "EUR"),
    AccountSpec("customers:cus_ann:available:EUR", "liability", "EUR", 0),
)


@committed
def open_both(organization):
    return operations.open_accounts(organization_id=organization, accounts=BOTH, now=NOW)


class TestOpenAccounts:
    def test_tells_of_each_that_it_opens_and_of_none_that_stands(self):
        organization = create_organization()
        fees = open_account(organization, "fees:bank:EUR", type_="expense", floor=None)

        opened = open_both(organization)

        assert opened["fees:bank:EUR"] == fees
        ann = opened["customers:cus_ann:available:EUR"]
        told = OutboxEvent.objects.filter(type="ledger_account.opened").order_by("recorded_at")
        assert [(event.aggregate_id, event.data) for event in told] == [
            (
                encode_id("la", fees),
                {"code": "fees:bank:EUR", "type": "expense", "currency": "EUR"},
            ),
            (
                encode_id("la", ann),
                {
                    "code": "customers:cus_ann:available:EUR",
                    "type": "liability",
                    "currency": "EUR",
                },
            ),
        ]
        assert breaches() == []

    def test_inserts_by_code_in_whatever_order_they_are_asked_for(self):
        """So that of two who ask the other way round one waits for the other, and not each."""
        organization = create_organization()

        opened = open_both(organization)

        # Ids grow as rows are made.
        assert sorted(opened, key=opened.__getitem__) == sorted(spec.code for spec in BOTH)

    @pytest.mark.parametrize("turn", range(5))
    def test_by_many_at_once_opens_each_once_and_answers_it_to_all(self, turn):
        organization = create_organization()

        answers = race(*[partial(open_both, organization)] * 6)

        assert all(answer == answers[0] for answer in answers)
        rows = LedgerAccount.objects.filter(organization_id=organization)
        assert dict(rows.values_list("code", "id")) == answers[0]
        assert OutboxEvent.objects.filter(type="ledger_account.opened").count() == 2
        assert breaches() == []
