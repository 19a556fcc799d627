"""The page of an exchange's entry says what was changed, by whose quote, and what rounding left."""

from decimal import Decimal

import pytest

from apps.core.ids import encode_id
from apps.ledger.models import FxTransfer
from tests.backoffice.test_who_corrected import facts
from tests.ledger.exchanges import exchange
from tests.ledger.factories import create_organization, fund, open_account

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("rate", "bought", "left"),
    [("1.08457", "10.84", "0.57 of a minor unit"), ("1.08", "10.80", "nothing")],
)
def test_of_either_entry(rate, bought, left):
    organization = create_organization()
    euros, dollars = (open_account(organization, f"wallets:ann:{of}") for of in ("EUR", "USD"))
    fund(organization, euros, 100_00)
    fx = FxTransfer.objects.get(
        id=exchange(organization, euros, dollars, 10_00, rate=Decimal(rate), source="ecb")
    )

    pages = [
        facts(f"/admin/ledger/journalentry/{encode_id('je', entry)}/")
        for entry in (fx.sold_entry_id, fx.bought_entry_id)
    ]

    for page in pages:
        assert page["Exchange"] == f"10.00 EUR for {bought} USD at {rate}"
        assert page["Quoted"] == "02 Nov 2026 09:30 UTC by ecb"
        assert page["Left by rounding"] == left
    # Each leads to the other.
    ends = [encode_id("je", entry)[-4:] for entry in (fx.bought_entry_id, fx.sold_entry_id)]
    assert [page["Its other side"][-4:] for page in pages] == ends
