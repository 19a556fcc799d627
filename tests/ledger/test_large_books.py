"""Accounts as full as the books can count: refused at the last unit, and summed without a fault."""

import pytest

from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.ledger import queries
from apps.ledger.models import Hold, JournalEntry
from apps.ledger.rules import COUNTER_MAX, CaptureHold, PlaceHold
from tests.ledger.clients import ApiClient, code_of, printed
from tests.ledger.factories import NOW, balance, open_account, post
from tests.ledger.rows import fingerprints
from tests.ledger.tampering import corrupt

pytestmark = pytest.mark.django_db(transaction=True)

# So many that what they hold together is more than a bigint holds.
ACCOUNTS = 12
FULL = COUNTER_MAX - 5


@pytest.fixture
def api():
    """Wallets and vaults over which nearly all has moved that ever can."""
    api = ApiClient("ledger:read", "transfers:write", "holds:write")
    api.wallets, api.vaults = (
        [
            open_account(api.organization, f"{name}:n{n}:EUR", type_=type_, floor=None)
            for n in range(ACCOUNTS)
        ]
        for name, type_ in (("full", "liability"), ("vaults", "asset"))
    )
    for column, accounts in (("posted_credits", api.wallets), ("posted_debits", api.vaults)):
        corrupt(f"UPDATE ledger_balance SET {column} = %s WHERE id = ANY(%s)", FULL, accounts)
    return api


def body(debit, credit, amount) -> dict:
    return {
        "debit_account": printed(debit), "credit_account": printed(credit), "amount": amount,
        "currency": "EUR",
    }  # fmt: skip


class TestTheLastUnit:
    @pytest.mark.parametrize("path", ["transfers", "holds"])
    @pytest.mark.parametrize("side", ["debit", "credit"])
    def test_goes_and_one_more_is_refused_by_either_account(self, api, path, side):
        if side == "debit":
            full, pair = api.vaults[0], (api.vaults[0], api.bob)
        else:
            full, pair = api.wallets[0], (api.ann, api.wallets[0])
        stood = balance(api.organization, full)
        before = fingerprints("ledger_", "core_outbox", locks=False)

        over = api.post(f"/v1/{path}", body(*pair, 6), key="a")
        assert fingerprints("ledger_", "core_outbox", locks=False) == before
        last = api.post(f"/v1/{path}", body(*pair, 5), key="b")
        more = api.post(f"/v1/{path}", body(*pair, 1), key="c")

        assert code_of(over) == code_of(more) == (422, "balance_too_large")
        assert over.json()["ledger_account"] == encode_id("la", full)
        assert last.status_code == 201
        after = balance(api.organization, full)
        assert (after.posted + after.pending_in) - (stood.posted + stood.pending_in) == 5
        assert JournalEntry.objects.count() + Hold.objects.count() == 2

    def test_that_is_reserved_is_captured(self, api):
        hold = PlaceHold(id=new_id(), debit_account_id=api.vaults[0], currency="EUR",
                         credit_account_id=api.wallets[0], amount_minor=5)  # fmt: skip
        post(api.organization, hold)

        post(api.organization, CaptureHold(hold_id=hold.id, entry_id=new_id(), kind="capture"))

        for account in (api.vaults[0], api.wallets[0]):
            assert balance(api.organization, account).posted == COUNTER_MAX


class TestSums:
    """Of a branch, a type or all: each is one of many accounts."""

    TOGETHER = ACCOUNTS * FULL

    def test_of_the_tree_of_codes(self, api):
        for number, account in enumerate(api.wallets):
            hold = PlaceHold(id=new_id(), debit_account_id=account, currency="EUR",
                             credit_account_id=api.bob, amount_minor=number + 1)  # fmt: skip
            post(api.organization, hold)
        reserved = ACCOUNTS * (ACCOUNTS + 1) // 2

        levels = queries.list_levels(organization_id=api.organization, now=NOW)

        found = {branch.path: branch for branch in levels[""].branches}
        assert found["full"].sums == {"EUR": -self.TOGETHER}
        assert found["full"].pending_out == {"EUR": reserved}
        assert found["full"].available == {"EUR": self.TOGETHER - reserved}
        assert found["vaults"].sums == found["vaults"].available == {"EUR": self.TOGETHER}

    def test_of_balances_the_trial_balance_and_the_balance_sheet(self, api):
        [total] = api.get("/v1/balances", code_prefix="full:").json()["totals"]
        [trial] = api.get("/v1/trial-balance").json()["totals"]
        [sheet] = api.get("/v1/balance-sheet").json()["data"]

        moved = self.TOGETHER + 100_00
        assert total["posted"] == self.TOGETHER
        assert (trial["debits"], trial["credits"], trial["balanced"]) == (moved, moved, True)
        assert (sheet["assets"], sheet["liabilities"], sheet["balanced"]) == (moved, moved, True)

    def test_of_the_invariants_name_what_was_made_by_hand_and_nothing_else(self, api):
        assert {breach.name for breach in breaches()} == {"ledger_balance_follows_its_postings"}
