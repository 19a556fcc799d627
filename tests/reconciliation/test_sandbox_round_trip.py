"""A payout to the sandbox bank and back: sent, answered, settled by its statement, returned."""

import pytest

from apps.banking.adapters import channel_for
from apps.banking.models import BankFile
from apps.banking.queries import get_bank_file_content
from apps.banking.tasks import fetch_files
from tests.payouts import factories as world
from tests.payouts.factories import CUT_OFF
from tests.reconciliation.factories import assert_books_hold, available, match_all, posted
from tests.sandbox.conftest import Bank

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bank(tmp_path):
    served = Bank(tmp_path / "sandbox.sqlite3")
    yield served
    served.kill()


def test_two_payouts_of_which_one_comes_back(bank, settings):
    settings.SANDBOX_URL, settings.PAYOUT_COOLDOWN_HOURS = bank.url, 0
    home = world.world(channel="sandbox")
    customer = world.customer_with(home, 500_00)
    target = world.destination(home, customer)
    kept, returned = (world.request(home, target, amount) for amount in (120_00, 80_00))
    batch = world.freeze(kept)
    world.export(batch)
    returning = world.attempt_of(returned).end_to_end_id
    bank.misbehave("return", match={"end_to_end_id": returning}, code="AC01")
    batch = world.send(batch)
    content = get_bank_file_content(organization_id=home.id, bank_file_id=batch.file_id)

    channel_for(organization_id=home.id, bank_account_id=home.bank_account.id).send(
        name="batch.xml", content=content
    )
    taken = fetch_files(
        organization_id=home.id,
        connection_id=home.bank_account.connection_id,
        # However slow the machine is.
        seconds_max=60,
        now=CUT_OFF,
    )
    match_all()

    assert taken.count >= 4
    assert taken.is_all
    assert set(BankFile.objects.filter(direction="in").values_list("state", flat=True)) == {
        "imported"
    }
    for payout, state in ((kept, "settled"), (returned, "returned")):
        payout.refresh_from_db()
        assert payout.state == state
    assert available(customer) == 500_00 - 120_00
    assert posted(home.id, "bank:") == -120_00
    assert posted(home.id, "payouts:in_transit:EUR") == 0
    assert posted(home.id, "suspense:") == 0
    assert_books_hold()
