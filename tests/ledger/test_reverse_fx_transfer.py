"""An exchange is undone as a whole, or not at all: by its client, by hand, and in no other way."""

from datetime import timedelta
from functools import partial

import pytest

from apps.core import transactions
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent
from apps.ledger import operations, queries
from apps.ledger.errors import (
    AlreadyReversed,
    FxTransferNotFound,
    InsufficientFunds,
    PartOfFxTransfer,
)
from apps.ledger.models import FxTransfer, JournalEntry
from apps.ledger.rules import Leg, PostEntry
from tests.ledger.clients import ApiClient, code_of, printed
from tests.ledger.exchanges import exchange, position
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    committed,
    create_organization,
    fund,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.rows import fingerprints
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    euros = open_account(organization, "wallets:ann:EUR")
    dollars = open_account(organization, "wallets:ann:USD")
    fund(organization, euros, 100_00)
    fx = exchange(organization, euros, dollars)
    return organization, euros, dollars, FxTransfer.objects.get(id=fx)


def undo(organization, fx, *, at="now", key="undo"):
    return operations.reverse_fx_transfer(
        organization_id=organization, fx_transfer_id=fx.id, at=at, reason="The trip is off",
        idempotency_key=key, actor=ACTOR, now=NOW,
    )  # fmt: skip


def preview(organization, fx, *, at="now"):
    return operations.preview_fx_reversal(
        organization_id=organization, fx_transfer_id=fx.id, at=at, now=NOW
    )


def stand(organization, euros, dollars):
    return (
        balance(organization, euros).available,
        balance(organization, dollars).available,
        position(organization, "EUR"),
        position(organization, "USD"),
    )


class TestReverseFxTransfer:
    @pytest.mark.parametrize("at", ["now", "original"])
    def test_puts_both_currencies_back_as_one_act(self, books, at):
        organization, euros, dollars, fx = books
        before = fingerprints("ledger_", "core_")
        dry = preview(organization, fx, at=at)
        assert fingerprints("ledger_", "core_") == before

        result = undo(organization, fx, at=at)

        assert stand(organization, euros, dollars) == (100_00, 0, 0, 0)
        assert dry.balances == result.balances
        for entry_id, reversal in zip(
            (fx.sold_entry_id, fx.bought_entry_id), result.entry_ids, strict=True
        ):
            view = queries.get_entry(organization_id=organization, entry_id=entry_id)
            assert view.reversed_by == reversal
            trail = AuditEvent.objects.get(subject_id=str(entry_id))
            assert (trail.act, trail.reason) == ("ledger.reverse_entry", "The trip is off")
        assert breaches() == []

    def test_again_with_its_key_answers_what_stands(self, books):
        organization, euros, dollars, fx = books
        first = undo(organization, fx)

        again = undo(organization, fx)

        assert again.entry_ids == first.entry_ids
        assert set(again.balances) == set(first.balances)
        assert stand(organization, euros, dollars) == (100_00, 0, 0, 0)

    def test_twice_is_refused(self, books):
        organization, _, _, fx = books
        undo(organization, fx)
        before = fingerprints("ledger_", "core_outbox", locks=False)

        with pytest.raises(AlreadyReversed) as refused:
            undo(organization, fx, key="again")

        assert "index" not in refused.value.details
        assert fingerprints("ledger_", "core_outbox", locks=False) == before

    def test_of_money_that_was_spent_is_refused_and_moves_nothing(self, books):
        organization, _, dollars, fx = books
        other = open_account(organization, "wallets:bob:USD")
        post_transfer(organization, dollars, other, 1, key="spent", currency="USD")
        before = fingerprints("ledger_", "core_outbox", locks=False)

        with pytest.raises(InsufficientFunds) as dry:
            preview(organization, fx)
        with pytest.raises(InsufficientFunds) as refused:
            undo(organization, fx)

        assert refused.value.details == dry.value.details == {
            "ledger_account": encode_id("la", dollars),
            "available": 108_44,
            "requested": 108_45,
            "min_available": 0,
        }  # fmt: skip
        assert fingerprints("ledger_", "core_outbox", locks=False) == before

    def test_of_another_organization_is_not_found(self, books):
        *_, fx = books
        stranger = create_organization("Other")

        with pytest.raises(FxTransferNotFound):
            undo(stranger, fx)
        with pytest.raises(FxTransferNotFound):
            preview(stranger, fx)

    @pytest.mark.parametrize("turn", range(5))
    def test_by_many_at_once_and_by_hand_has_one_winner(self, books, turn):
        organization, euros, dollars, fx = books

        outcomes = race(
            *(partial(undo, organization, fx, key=f"r{n}") for n in range(4)),
            partial(by_hand, organization, fx.sold_entry_id),
            partial(by_hand, organization, fx.bought_entry_id),
        )

        refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        assert [refusal.code for refusal in refused] == ["already_reversed"] * 5
        assert stand(organization, euros, dollars) == (100_00, 0, 0, 0)
        assert breaches() == []


@transactions.outermost
def by_hand(organization, entry_id):
    return operations.reverse_by_hand(
        organization_id=organization, entry_id=entry_id, at="now", requested_by="staff:mara",
        approved_by="staff:anton", reason="Quoted wrongly", actor=ACTOR, now=NOW,
    )  # fmt: skip


def undo_alone(organization, entry_id):
    """Undo one entry of an exchange past what keeps the two together."""
    entry = queries.get_entry(organization_id=organization, entry_id=entry_id)
    legs = tuple(Leg(p.account_id, -p.amount_minor, p.currency) for p in entry.postings)
    post(
        organization,
        PostEntry(
            id=new_id(), legs=legs, currency=legs[0].currency, kind="reversal", reverses=entry_id,
            recorded_at=NOW - timedelta(days=1),
        ),
    )  # fmt: skip


class TestOneOfItsEntries:
    def reverse_entry(self, organization, entry_id):
        return committed(operations.reverse_entry)(
            organization_id=organization, entry_id=entry_id, reason="", actor=ACTOR, now=NOW
        )

    def reverse_entries(self, organization, *entry_ids):
        return operations.reverse_entries(
            organization_id=organization, entry_ids=entry_ids, at="now", reason="",
            idempotency_key=str(new_id()), actor=ACTOR, now=NOW,
        )  # fmt: skip

    def preview(self, organization, *entry_ids):
        return operations.preview_reversal(
            organization_id=organization, entry_ids=entry_ids, at="now", now=NOW
        )

    @pytest.mark.parametrize("side", ["sold_entry_id", "bought_entry_id"])
    @pytest.mark.parametrize("act", ["reverse_entry", "reverse_entries", "preview"])
    def test_is_not_undone_for_itself(self, books, side, act):
        organization, *_, fx = books
        before = fingerprints("ledger_", "core_outbox", locks=False)

        with pytest.raises(PartOfFxTransfer) as refused:
            getattr(self, act)(organization, getattr(fx, side))

        assert refused.value.details == {"fx_transfer": encode_id("fx", fx.id)}
        refusal = operations.can_reverse(
            organization_id=organization, entry_id=getattr(fx, side), at="now", now=NOW
        )
        assert isinstance(refusal, PartOfFxTransfer)
        assert fingerprints("ledger_", "core_outbox", locks=False) == before

    @pytest.mark.parametrize("side", ["sold_entry_id", "bought_entry_id"])
    def test_says_by_what_it_was_undone_once_the_whole_was(self, books, side):
        organization, *_, fx = books
        done = undo(organization, fx).entry_ids
        reversal = done[0] if side == "sold_entry_id" else done[1]

        with pytest.raises(AlreadyReversed) as refused:
            self.reverse_entries(organization, getattr(fx, side))

        assert refused.value.details == {"reversal": encode_id("je", reversal)}
        told = operations.can_reverse(
            organization_id=organization, entry_id=getattr(fx, side), at="now", now=NOW
        )
        assert (told.code, told.details) == (refused.value.code, refused.value.details)

    def test_in_a_set_is_named_by_its_place(self, books):
        organization, euros, _, fx = books
        other = open_account(organization, "wallets:bob:EUR")
        fund(organization, euros, 1)
        gift = post_transfer(organization, euros, other, 1, key="gift").entry_id

        with pytest.raises(PartOfFxTransfer) as refused:
            self.reverse_entries(organization, gift, fx.bought_entry_id, fx.sold_entry_id)

        assert refused.value.details["index"] == 1

    @pytest.mark.parametrize("side", ["sold_entry_id", "bought_entry_id"])
    def test_by_hand_is_undone_with_the_other(self, books, side):
        organization, euros, dollars, fx = books
        entry_id = getattr(fx, side)
        dry = operations.preview_reversal_by_hand(
            organization_id=organization, entry_id=entry_id, at="now", now=NOW
        )

        reversal = by_hand(organization, entry_id)

        assert stand(organization, euros, dollars) == (100_00, 0, 0, 0)
        assert {after.id: after.available for after in dry.balances}[euros] == 100_00
        view = queries.get_entry(organization_id=organization, entry_id=entry_id)
        assert view.reversed_by == reversal
        assert breaches() == []

    def test_undone_behind_the_engine_is_a_breach(self, books):
        organization, *_, fx = books

        undo_alone(organization, fx.sold_entry_id)

        [breach] = breaches()
        assert breach.name == "ledger_exchange_is_undone_as_a_whole"
        assert [row["fx_transfer"] for row in breach.rows] == [encode_id("fx", fx.id)]

    @pytest.mark.parametrize("sides", [("sold", "bought"), ("bought", "sold")])
    def test_that_stands_alone_is_undone_by_hand(self, books, sides):
        """As an earlier release left it, which undid one of the two."""
        organization, euros, dollars, fx = books
        undone, standing = (getattr(fx, f"{side}_entry_id") for side in sides)
        undo_alone(organization, undone)
        [before] = breaches()
        assert before.name == "ledger_exchange_is_undone_as_a_whole"
        dry = operations.preview_reversal_by_hand(
            organization_id=organization, entry_id=standing, at="now", now=NOW
        )

        with pytest.raises(AlreadyReversed):
            by_hand(organization, undone)
        by_hand(organization, standing)

        assert stand(organization, euros, dollars) == (100_00, 0, 0, 0)
        assert len(dry.balances) == 2
        assert breaches() == []
        with pytest.raises(AlreadyReversed):
            by_hand(organization, standing)


class TestApi:
    @pytest.fixture
    def api(self):
        api = ApiClient()
        api.dollars = open_account(api.organization, "wallets:ann:USD")
        api.fx = FxTransfer.objects.get(
            id=exchange(api.organization, api.ann, api.dollars, 10_00, key="fx")
        )
        api.route = f"/v1/fx-transfers/{encode_id('fx', api.fx.id)}/reversal"
        return api

    def test_undoes_it_dry_and_for_good_and_replays(self, api):
        dry = api.post(api.route, {"dry_run": True}, key=None)
        assert not JournalEntry.objects.filter(kind="reversal").exists()

        real = api.post(api.route, {"reason": "The trip is off"})
        again = api.post(api.route, {"reason": "The trip is off"})

        assert (dry.status_code, real.status_code, again.status_code) == (200, 201, 201)
        assert again["Idempotent-Replayed"] == "true"
        assert again.json()["journal_entries"] == real.json()["journal_entries"]
        assert dry.json()["balances"] == real.json()["balances"]
        left = {one["ledger_account"]: one["available"] for one in real.json()["balances"]}
        assert (left[printed(api.ann)], left[printed(api.dollars)]) == (100_00, 0)
        assert code_of(api.post(api.route, {}, key="k-2")) == (409, "already_reversed")
        assert breaches() == []

    def test_is_told_where_the_exchange_is_read(self, api):
        path = f"/v1/fx-transfers/{encode_id('fx', api.fx.id)}"
        before = api.get(path)

        undone = api.post(api.route, {"reason": "The trip is off"})

        after = api.get(path)
        assert before.json()["reversals"] is None
        assert after.json() == before.json() | {"reversals": undone.json()["journal_entries"]}
        assert after["ETag"] != before["ETag"]

    def test_names_it_where_one_entry_was_to_be_undone(self, api):
        entry = encode_id("je", api.fx.sold_entry_id)

        refused = api.post(f"/v1/journal-entries/{entry}/reversal", {})

        assert code_of(refused) == (422, "part_of_fx_transfer")
        assert refused.json()["fx_transfer"] == encode_id("fx", api.fx.id)
        asked = api.get(f"/v1/journal-entries/{entry}/reversal").json()
        assert (asked["reversible"], asked["code"]) == (False, "part_of_fx_transfer")

    def test_of_another_organization_is_404(self, api):
        assert code_of(ApiClient().post(api.route, {})) == (404, "fx_transfer_not_found")

    def test_needs_the_scope_of_an_exchange(self, api):
        reader = ApiClient("ledger:read", "transfers:write")

        assert code_of(reader.post(api.route, {})) == (403, "insufficient_scope")
