import json
from datetime import date, timedelta
from functools import partial

import pytest

from apps.accounts.models import Customer
from apps.banking.errors import CalendarNotSeeded
from apps.core.errors import Refusal
from apps.core.idempotency import IdempotencyKeyReused
from apps.core.ids import encode_id
from apps.core.models import OutboxEvent
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import Hold
from apps.payouts import errors, operations
from apps.payouts.models import Payout
from apps.risk import operations as risk
from apps.risk.errors import LimitExceeded
from apps.risk.models import Fact
from apps.webhooks.models import WebhookBody
from tests.payouts import factories, people
from tests.payouts.factories import JOB, NOW, available, request
from tests.support import race
from tests.webhooks.factories import create_endpoint, relay

pytestmark = pytest.mark.django_db(transaction=True)


def set_price(home, fee_minor):
    operations.set_price(
        organization_id=home.id,
        rail="sct",
        currency="EUR",
        fee_minor=fee_minor,
        idempotency_key=f"price-{fee_minor}",
        actor=JOB,
        now=NOW - timedelta(days=1),
    )


class TestRequest:
    def test_reserves_amount_and_fee_and_schedules_a_small_one(self, home, customer, target):
        set_price(home, 25)

        payout = request(home, target, 100_00)

        assert (payout.state, payout.fee_minor) == ("scheduled", 25)
        assert payout.execution_date.isoformat() == "2026-11-24"
        assert factories.history(payout) == ["requested", "approved", "scheduled"]
        assert available(home, customer) == 5_000_00 - 100_25
        assert factories.balances(home)["customers:available"] == 5_000_00
        holds = Hold.objects.order_by("amount_minor").values_list("id", "amount_minor", "status")
        assert list(holds) == [
            (payout.fee_hold_id, 25, "open"),
            (payout.hold_id, 100_00, "open"),
        ]

    def test_asks_another_person_for_more_than_a_thousand(self, home, target):
        payout = request(home, target, 1_000_01)

        assert payout.state == "pending_approval"
        assert factories.history(payout) == ["requested", "pending_approval"]

    def test_tells_each_step_once_with_the_state_it_left(self, home, target):
        payout = request(home, target, 100_00)

        told = OutboxEvent.objects.filter(aggregate_type="payout").order_by("sequence")
        assert [(e.type, e.sequence, e.data["state"]) for e in told] == [
            ("payout.requested", 1, "requested"),
            ("payout.approved", 2, "approved"),
            ("payout.scheduled", 3, "scheduled"),
        ]
        assert {e.aggregate_id for e in told} == {encode_id("po", payout.id)}

    def test_sends_each_step_as_it_was_though_it_has_gone_on(self, home, target):
        create_endpoint(home.organization, "http://127.0.0.1:9/", event_types=["payout.*"])
        factories.cancel(home, request(home, target, 100_00))

        relay()

        stored = WebhookBody.objects.filter(organization=home.organization)
        told = [json.loads(bytes(each.body)) for each in stored]
        assert sorted((body["sequence"], body["type"], body["data"]["state"]) for body in told) == [
            (1, "payout.requested", "requested"),
            (2, "payout.approved", "approved"),
            (3, "payout.scheduled", "scheduled"),
            (4, "payout.canceled", "canceled"),
        ]

    def test_holds_one_to_a_new_account_until_its_cooldown_is_over(self, home, customer, settings):
        settings.PAYOUT_COOLDOWN_HOURS = 24
        fresh = factories.destination(home, customer, now=NOW)

        payout = request(home, fresh, 100_00, now=NOW + timedelta(hours=1))

        assert (payout.state, payout.hold_reasons) == ("held", ["destination_cooldown"])
        assert payout.available_at == NOW + timedelta(hours=24)
        assert available(home, customer) == 4_900_00

    def test_goes_on_at_the_end_of_the_cooldown_and_not_before(self, home, customer, settings):
        settings.PAYOUT_COOLDOWN_HOURS = 24
        fresh = factories.destination(home, customer, now=NOW)
        payout = request(home, fresh, 100_00)
        end = NOW + timedelta(hours=24)
        go = partial(operations.end_cooldown, organization_id=home.id, payout_id=payout.id)

        early, on_time, again = go(now=end - timedelta(seconds=1)), go(now=end), go(now=end)

        payout.refresh_from_db()
        assert (early, on_time, again) == (False, True, False)
        assert (payout.state, payout.execution_date.isoformat()) == ("scheduled", "2026-11-25")

    def test_holds_what_looks_like_a_repetition(self, home, target):
        first = request(home, target, 100_00, remittance="Invoice 12")

        second = request(home, target, 100_00, remittance=" INVOICE  12")
        other = request(home, target, 100_00, remittance="Invoice 13")
        later = request(home, target, 100_00, remittance="Invoice 12", now=NOW + timedelta(hours=7))

        assert (second.state, second.hold_reasons) == ("held", ["duplicate_suspected"])
        assert (first.state, other.state, later.state) == ("scheduled",) * 3

    def test_a_canceled_one_is_repeated_at_once(self, home, customer, target):
        set_price(home, 25)
        factories.cancel(home, request(home, target, 5_000_00 - 25))

        payout = request(home, target, 5_000_00 - 25)

        assert payout.state == "pending_approval"
        assert available(home, customer) == 0


class TestReplay:
    def test_the_same_key_is_the_same_payout_as_it_is_now(self, home, target):
        first = request(home, target, 100_00, key="k")
        factories.cancel(home, first)

        again = request(home, target, 100_00, key="k")

        assert (again.id, again.state) == (first.id, "canceled")
        assert Payout.objects.count() == 1

    def test_five_in_parallel_make_one(self, home, customer, target):
        outcomes = race(*(partial(request, home, target, 100_00, key="k") for _ in range(5)))

        assert {outcome.id for outcome in outcomes} == {Payout.objects.get().id}
        assert available(home, customer) == 4_900_00

    def test_another_amount_under_the_key_writes_nothing(self, home, target):
        first = request(home, target, 100_00, key="k")

        with pytest.raises(IdempotencyKeyReused) as refused:
            request(home, target, 100_01, key="k")

        assert refused.value.details["resource"] == encode_id("po", first.id)
        assert Payout.objects.count() == 1


class TestRefusals:
    def refused(self, kind, home, target, amount_minor=100_00, **more):
        with pytest.raises(kind) as refused:
            request(home, target, amount_minor, **more)
        assert Payout.objects.count() == 0
        assert Hold.objects.count() == 0
        assert not Fact.objects.exclude(state="refused").exists()
        return refused.value

    def test_more_than_is_available(self, home, target):
        self.refused(InsufficientFunds, home, target, 5_000_01)

    def test_an_amount_whose_fee_is_not_covered(self, home, target):
        set_price(home, 1)

        self.refused(InsufficientFunds, home, target, 5_000_00)

    def test_a_limit_names_itself_and_the_refusal_is_replayed(self, home, target):
        risk.set_limit(
            organization_id=home.id,
            change=risk.LimitChange(
                scope="each_customer", act="payout", currency="EUR", max_amount_minor=500_00
            ),
            reason="a test",
            idempotency_key="limit",
            actor=JOB,
            now=NOW,
        )

        first = self.refused(LimitExceeded, home, target, 500_01, key="k")
        again = self.refused(LimitExceeded, home, target, 500_01, key="k")

        assert first.details == again.details
        assert first.details["limit"]["remaining"] == 500_00
        assert Fact.objects.filter(state="refused").count() == 1

    def test_another_customers_destination(self, home, target):
        other = factories.customer_with(home, 100_00)

        self.refused(errors.DestinationNotFound, home, target, customer_id=other.id)

    def test_another_organizations_destination(self, home, target):
        with pytest.raises(errors.DestinationNotFound):
            request(factories.world(), target, 100_00)

    def test_another_currency(self, home, target):
        self.refused(errors.PayoutCurrencyMismatch, home, target, currency="SEK")

    def test_of_a_customer_without_an_account_in_its_currency(self, home):
        other = factories.customer_with(home, 100_00, "SEK")

        self.refused(errors.NoLedgerAccount, home, factories.destination(home, other))

    def test_a_day_beyond_the_calendar(self, home, target):
        with pytest.raises(CalendarNotSeeded):
            request(home, target, 100_00, wished_date=date(2999, 1, 1))

    def test_more_than_an_instruction_carries(self, home, target):
        self.refused(errors.AmountTooLarge, home, target, 10**11)

    def test_a_frozen_customer(self, home, customer, target):
        Customer.objects.filter(id=customer.id).update(
            state="frozen", frozen_at=NOW, frozen_by="staff:x"
        )

        self.refused(errors.AccountFrozen, home, target)

    def test_a_disabled_destination(self, home, target):
        operations.disable_destination(
            organization_id=home.id,
            destination_id=target.id,
            reason="lost",
            idempotency_key="d",
            actor=home.key,
            now=NOW,
        )

        self.refused(errors.DestinationDisabled, home, target)

    @pytest.mark.parametrize(
        "words",
        [
            {"remittance": "a", "creditor_reference": "RF18539007547034"},
            {"remittance": "x" * 141},
            {"creditor_reference": "RF19539007547034"},
        ],
    )
    def test_words_that_a_bank_does_not_carry(self, home, target, words):
        self.refused(errors.InvalidRemittance, home, target, **words)

    def test_staff_without_the_capability(self, home, target):
        with pytest.raises(Refusal) as refused:
            request(home, target, 100_00, actor=people.staff("support"))

        assert refused.value.code == "capability_missing"

    def test_a_second_payout_with_an_external_id(self, home, target):
        first = request(home, target, 100_00, external_id="x")

        with pytest.raises(errors.DuplicateExternalId) as refused:
            request(home, target, 200_00, external_id="x")

        assert refused.value.details["payout"] == encode_id("po", first.id)
        assert Payout.objects.count() == 1


class TestRaces:
    def test_two_for_the_same_money_reserve_it_once(self, home, customer, target):
        outcomes = race(
            *(partial(request, home, target, 5_000_00, key=key, remittance=key) for key in "ab")
        )

        kinds = sorted(type(outcome).__name__ for outcome in outcomes)
        assert kinds == ["InsufficientFunds", "Payout"]
        assert available(home, customer) == 0

    def test_two_with_one_external_id_make_one(self, home, target):
        outcomes = race(
            *(partial(request, home, target, 100_00, key=key, external_id="x") for key in "ab")
        )

        kinds = sorted(type(outcome).__name__ for outcome in outcomes)
        assert kinds == ["DuplicateExternalId", "Payout"]

    def test_two_that_look_alike_are_not_both_let_through(self, home, target):
        outcomes = race(*(partial(request, home, target, 100_00, key=key) for key in "ab"))

        assert sorted(outcome.state for outcome in outcomes) == ["held", "scheduled"]


class TestRelease:
    def release(self, home, payout, hold_reason="duplicate_suspected", **more):
        return operations.release_payout(
            **{
                "organization_id": home.id,
                "payout_id": payout.id,
                "hold_reason": hold_reason,
                "reason": "called them",
                "idempotency_key": "r",
                "actor": people.staff("risk_manager"),
                "now": NOW,
                **more,
            }
        )

    def test_lets_it_go_on(self, home, target):
        request(home, target, 100_00)
        held = request(home, target, 100_00)

        assert self.release(home, held).state == "scheduled"
        assert self.release(home, held).state == "scheduled"

    def test_nobody_shortens_a_cooldown(self, home, customer, settings):
        settings.PAYOUT_COOLDOWN_HOURS = 24
        held = request(home, factories.destination(home, customer), 100_00)

        with pytest.raises(errors.PayoutNotHeld):
            self.release(home, held, "destination_cooldown")

    def test_one_of_two_reasons_leaves_the_other(self, home, customer, settings):
        settings.PAYOUT_COOLDOWN_HOURS = 24
        fresh = factories.destination(home, customer)
        request(home, fresh, 100_00)
        held = request(home, fresh, 100_00)

        after = self.release(home, held)

        assert (after.state, after.hold_reasons) == ("held", ["destination_cooldown"])

    def test_release_against_cancel_has_one_winner(self, home, customer, target):
        request(home, target, 100_00)
        held = request(home, target, 100_00)

        outcomes = race(partial(self.release, home, held), partial(factories.cancel, home, held))

        held.refresh_from_db()
        assert held.state == "canceled"
        assert any(isinstance(one, Payout) for one in outcomes)
        assert available(home, customer) == 4_900_00
