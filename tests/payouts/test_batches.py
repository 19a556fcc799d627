from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import IntegrityError, connection

from apps.accounts.models import Customer
from apps.banking.formats.pain001 import validate
from apps.banking.models import BankFile
from apps.payouts import errors, operations, queries
from apps.payouts.models import BatchWork, Payout, PayoutAttempt, PayoutBatch
from apps.payouts.operations import SendOutcome
from tests.payouts import factories, people
from tests.payouts.factories import CUT_OFF, JOB, NOW, available, request
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


class TestCancel:
    def test_gives_amount_and_fee_back(self, home, customer, target):
        payout = request(home, target, 1_500_00)

        canceled = factories.cancel(home, payout)

        assert (canceled.state, canceled.closed_at) == ("canceled", NOW)
        assert available(home, customer) == 5_000_00
        assert factories.history(payout) == ["requested", "pending_approval", "canceled"]

    def test_a_replay_and_a_second_cancel_void_once(self, home, customer, target):
        payout = request(home, target, 100_00)
        factories.cancel(home, payout, key="k")

        assert factories.cancel(home, payout, key="k").state == "canceled"
        with pytest.raises(errors.PayoutNotCancelable):
            factories.cancel(home, payout)

        assert available(home, customer) == 5_000_00

    def test_nothing_in_a_file_is_canceled(self, home, customer, target):
        payout = request(home, target, 100_00)
        factories.freeze(payout)

        with pytest.raises(errors.PayoutNotCancelable) as refused:
            factories.cancel(home, payout)

        assert refused.value.details == {"state": "batched"}
        assert available(home, customer) == 4_900_00

    def test_another_organizations_payout_is_not_found(self, home, target):
        payout = request(home, target, 100_00)

        with pytest.raises(errors.PayoutNotFound):
            factories.cancel(factories.world(), payout)

    def test_cancel_against_freeze_is_one_or_the_other(self, home, customer, target):
        tries = 50
        canceled = 0
        for number in range(tries):
            payout = request(home, target, 10_00, remittance=f"try {number}")
            calls = [partial(factories.cancel, home, payout), partial(factories.freeze, payout)]

            first, batch = race(*calls)

            payout.refresh_from_db()
            in_file = PayoutAttempt.objects.filter(payout_id=payout.id).exists()
            if isinstance(first, errors.PayoutNotCancelable):
                assert (payout.state, in_file, batch is not None) == ("batched", True, True)
            else:
                assert (payout.state, in_file, batch) == ("canceled", False, None)
                canceled += 1
        assert available(home, customer) == 5_000_00 - 10_00 * (tries - canceled)


class TestApproval:
    def test_another_person_sends_it_on_its_way(self, home, target):
        payout = request(home, target, 1_500_00)

        factories.decide(home, payout, people.approver())

        payout.refresh_from_db()
        assert (payout.state, payout.execution_date.isoformat()) == ("scheduled", "2026-11-24")

    def test_the_cut_off_counts_when_it_is_approved(self, home, target):
        payout = request(home, target, 1_500_00)

        factories.decide(home, payout, people.approver(), now=CUT_OFF)

        payout.refresh_from_db()
        assert payout.execution_date.isoformat() == "2026-11-25"

    def test_a_denial_gives_the_money_back(self, home, customer, target):
        payout = request(home, target, 1_500_00)

        factories.decide(home, payout, people.approver(), "deny")

        payout.refresh_from_db()
        assert (payout.state, payout.failure_code) == ("denied", "approval_denied")
        assert available(home, customer) == 5_000_00

    def test_the_issuer_of_the_key_does_not_approve(self, home, target):
        payout = request(home, target, 1_500_00)
        issuer = people.staff_of(home.key.principal)

        with pytest.raises(Exception, match="another decides"):
            factories.decide(home, payout, issuer)

    def test_an_expired_one_is_canceled_by_the_clock(self, home, customer, target):
        payout = request(home, target, 1_500_00)

        with pytest.raises(Exception, match="over"):
            factories.decide(home, payout, people.approver(), now=NOW + timedelta(hours=72))

        payout.refresh_from_db()
        assert (payout.state, payout.failure_code) == ("canceled", "approval_expired")
        assert available(home, customer) == 5_000_00

    def test_an_approver_who_left_before_the_freeze_takes_it_along(self, home, target):
        payout, gone = request(home, target, 1_500_00), people.approver()
        factories.decide(home, payout, gone)
        people.deactivate(gone)

        assert factories.freeze(payout) is None

        payout.refresh_from_db()
        assert payout.state == "pending_approval"
        factories.decide(home, payout, people.approver(), now=CUT_OFF)
        assert factories.freeze(payout, CUT_OFF + timedelta(days=1)) is not None

    def test_approval_against_cancel_has_one_winner(self, home, customer, target):
        payout = request(home, target, 1_500_00)
        payout.refresh_from_db()

        race(
            partial(factories.decide, home, payout, people.approver()),
            partial(factories.cancel, home, payout),
        )

        payout.refresh_from_db()
        assert payout.state == "canceled"
        assert available(home, customer) == 5_000_00


class TestFreeze:
    def test_makes_one_batch_of_what_shares_a_key(self, home, customer, target):
        other = factories.destination(home, customer, factories.IBANS[1])
        payouts = [request(home, target, 100_00), request(home, other, 200_00)]
        tomorrow = request(
            home, other, 300_00, wished_date=datetime(2026, 11, 25, tzinfo=UTC).date()
        )

        batch = factories.freeze(payouts[0])

        assert (batch.state, batch.attempt_count, batch.total_minor) == ("frozen", 2, 300_00)
        attempts = queries.list_batch_attempts(organization_id=home.id, batch_id=batch.id)
        assert [(a.number_in_file, a.amount_minor, a.end_to_end_id) for a in attempts] == [
            (1, 100_00, attempts[0].id.hex),
            (2, 200_00, attempts[1].id.hex),
        ]
        states = [Payout.objects.get(id=p.id).state for p in (*payouts, tomorrow)]
        assert states == ["batched", "batched", "scheduled"]

    def test_a_second_freeze_finds_nothing(self, home, target):
        payout = request(home, target, 100_00)
        key = factories.key_of(payout)

        outcomes = race(
            *(partial(operations.freeze_batch, key=key, actor=JOB, now=CUT_OFF) for _ in range(4))
        )

        assert len([batch for batch in outcomes if batch is not None]) == 1
        assert PayoutBatch.objects.count() == 1

    def test_more_than_fit_make_another(self, home, customer, settings):
        settings.PAYOUT_BATCH_MAX = 2
        payouts = [
            request(home, factories.destination(home, customer, iban), 1_00)
            for iban in factories.IBANS
        ]
        key = factories.key_of(payouts[0])

        batches = [operations.freeze_batch(key=key, actor=JOB, now=CUT_OFF) for _ in range(3)]

        assert [batch and batch.attempt_count for batch in batches] == [2, 1, None]

    def test_what_missed_its_day_moves_to_the_next_and_says_so(self, home, target):
        payout = request(home, target, 100_00)

        assert factories.freeze(payout, CUT_OFF + timedelta(hours=20)) is None

        payout.refresh_from_db()
        assert (payout.state, payout.execution_date.isoformat()) == ("scheduled", "2026-11-25")
        assert payout.event_sequence == 4

    @pytest.mark.parametrize("what", ["customer", "destination"])
    def test_the_unfit_are_held(self, home, customer, target, what):
        payout = request(home, target, 100_00)
        if what == "customer":
            Customer.objects.filter(id=customer.id).update(
                state="frozen", frozen_at=NOW, frozen_by="staff:x"
            )
        else:
            target.state = "suspended"
            target.save(update_fields=["state"])

        assert factories.freeze(payout) is None

        payout.refresh_from_db()
        reason = {"customer": "payouts_paused", "destination": "destination_unverified"}[what]
        assert (payout.state, payout.hold_reasons) == ("held", [reason])

    def test_staff_without_the_capability_freeze_nothing(self, home, target):
        key = factories.key_of(request(home, target, 100_00))

        with pytest.raises(Exception, match="roles"):
            operations.freeze_batch(key=key, actor=people.staff("support"), now=CUT_OFF)


class TestExport:
    def test_writes_a_valid_file_of_what_was_frozen(self, home, customer):
        awkward = factories.destination(
            home,
            customer,
            holder_name="Łukasz & Søn <b>" + "x" * 80,
            address={"town": "Köln", "country": "DE", "street": "Weg"},
        )
        payout = request(home, awkward, 100_00, remittance="Rechnung № 12 – danke")

        batch = factories.export(factories.freeze(payout))

        written, content = factories.file_of(batch)
        validate(content)
        attempt = factories.attempt_of(payout)
        assert (batch.state, written.message_id) == ("exported", batch.message_id)
        assert written.payments == {attempt.end_to_end_id: (100_00, factories.IBANS[0])}
        assert b"<Nm>Lukasz + Son .b.xxx" in content
        assert b"<TwnNm>Koln</TwnNm><Ctry>DE</Ctry>" in content
        assert attempt.changed_fields == ["name", "remittance", "town"]
        assert len(queries.Clear(home.id).sent(attempt)["name"]) == 70

    def test_the_same_rows_give_the_same_bytes(self, home, target):
        batch = factories.freeze(request(home, target, 100_00))

        first, second = operations.write_file(batch), operations.write_file(batch)
        factories.export(batch)
        again = factories.export(batch)

        assert first == second == factories.file_of(again)[1]
        assert BankFile.objects.filter(direction="out").count() == 1

    def test_two_workers_store_one_file(self, home, target):
        batch = factories.freeze(request(home, target, 100_00))

        outcomes = race(*(partial(factories.export, batch) for _ in range(3)))

        assert {one.state for one in outcomes} == {"exported"}
        assert BankFile.objects.filter(direction="out").count() == 1

    def test_a_frozen_or_voided_batch_has_no_file(self, home, target):
        batch = factories.freeze(request(home, target, 100_00))

        with pytest.raises(errors.BatchNotReady):
            operations.export_batch(
                organization_id=home.id, batch_id=batch.id, actor=JOB, now=CUT_OFF
            )

    def test_a_creditor_reference_stands_in_its_own_place(self, home, target):
        payout = request(home, target, 100_00, creditor_reference="RF18539007547034")

        batch = factories.export(factories.freeze(payout))

        assert b"<Ref>RF18539007547034</Ref>" in factories.file_of(batch)[1]


class TestSend:
    def test_accepted_takes_the_money_to_transit(self, home, customer, target):
        payout = request(home, target, 100_00)

        batch = factories.submitted(payout)

        assert (batch.state, payout.state) == ("submitted", "submitted")
        assert factories.balances(home) == {
            "equity:opening": -5_000_00,
            "customers:available": 4_900_00,
            "payouts:in_transit": 100_00,
        }

    def test_not_sent_leaves_it_to_be_sent_again(self, home, target):
        payout = request(home, target, 100_00)
        batch = factories.export(factories.freeze(payout))

        factories.send(batch, SendOutcome.NOT_SENT)
        batch = factories.send(batch)

        assert batch.state == "submitted"

    def test_a_step_begun_again_has_all_its_tries(self, home, target):
        batch = factories.freeze(request(home, target, 100_00))
        BatchWork.objects.update(state="done", attempts=11)

        factories.export(batch)

        export = BatchWork.objects.get(step="export")
        assert (export.state, export.attempts) == ("pending", 0)

    def test_unknown_keeps_all_reserved_and_is_never_sent_again(self, home, customer, target):
        payout = request(home, target, 100_00)
        batch = factories.export(factories.freeze(payout))

        batch = factories.send(batch, SendOutcome.UNKNOWN)

        payout.refresh_from_db()
        assert (batch.state, payout.state) == ("unknown", "unknown")
        assert available(home, customer) == 4_900_00
        common = {"organization_id": home.id, "batch_id": batch.id, "actor": JOB, "now": CUT_OFF}
        assert operations.begin_send(**common) is None
        assert BatchWork.objects.get(step="status").state == "pending"

    def test_a_sender_that_died_makes_it_unknown(self, home, target):
        payout = request(home, target, 100_00)
        batch = factories.export(factories.freeze(payout))
        common = {"organization_id": home.id, "batch_id": batch.id, "actor": JOB, "now": CUT_OFF}
        assert operations.begin_send(**common).message_id == batch.message_id

        assert operations.begin_send(**common) is None

        batch.refresh_from_db()
        assert batch.state == "unknown"
        # The slow one was not dead after all: its word is a fact, and counts.
        assert operations.record_send(**common, outcome=SendOutcome.ACCEPTED).state == "submitted"

    def test_two_senders_send_once(self, home, target):
        batch = factories.export(factories.freeze(request(home, target, 100_00)))
        begin = partial(
            operations.begin_send,
            organization_id=home.id,
            batch_id=batch.id,
            actor=JOB,
            now=CUT_OFF,
        )

        outcomes = race(begin, begin)

        assert len([one for one in outcomes if one is not None]) == 1

    def test_staff_say_that_they_sent_it(self, home, target):
        payout = request(home, target, 100_00)
        batch = factories.export(factories.freeze(payout))
        mark = partial(
            operations.mark_batch_sent,
            organization_id=home.id,
            batch_id=batch.id,
            reason="uploaded",
            idempotency_key="k",
            actor=people.approver(),
            now=CUT_OFF,
        )

        assert mark().state == "submitted"
        assert mark().state == "submitted"


class TestAnotherOrganizationsBatch:
    @pytest.mark.parametrize(
        "act",
        [operations.release_batch, operations.export_batch, operations.begin_send],
    )
    def test_is_not_found_and_stays_as_it_is(self, home, target, act):
        batch = factories.freeze(request(home, target, 100_00))
        before = PayoutBatch.objects.values().get()
        stranger = factories.world()

        with pytest.raises(errors.BatchNotFound) as refused:
            act(organization_id=stranger.id, batch_id=batch.id, actor=JOB, now=NOW)

        assert refused.value.code == "payout_batch_not_found"
        assert PayoutBatch.objects.values().get() == before
        assert not BankFile.objects.filter(direction="out").exists()


class TestVoid:
    def void(self, home, batch):
        return operations.void_batch(
            organization_id=home.id,
            batch_id=batch.id,
            reason="wrong account",
            idempotency_key="v",
            actor=people.approver(),
            now=CUT_OFF,
        )

    def test_schedules_its_payouts_again(self, home, target):
        payout = request(home, target, 100_00)

        batch = self.void(home, factories.freeze(payout))

        payout.refresh_from_db()
        assert (batch.state, payout.state) == ("voided", "scheduled")
        assert payout.execution_date.isoformat() == "2026-11-25"
        again = factories.freeze(payout, CUT_OFF + timedelta(days=1))
        assert again.message_id != batch.message_id

    def test_not_once_a_file_exists(self, home, target):
        batch = factories.export(factories.freeze(request(home, target, 100_00)))

        with pytest.raises(errors.BatchMayHaveBeenSent):
            self.void(home, batch)


class TestGuards:
    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE payouts_payout SET state = 'settled', closed_at = now()",
            "UPDATE payouts_payout SET state = 'rejected', closed_at = now()",
            "UPDATE payouts_payout SET destination_version_id = id",
            "UPDATE payouts_payout SET hold_reasons = '{x}'",
            "DELETE FROM payouts_payout",
            "UPDATE payouts_transition SET to_state = 'settled'",
            "DELETE FROM payouts_transition",
            "UPDATE payouts_attempt SET state = 'settled'",
            "UPDATE payouts_attempt SET amount_minor = 1",
            "UPDATE payouts_batch SET state = 'reconciled'",
            "UPDATE payouts_batch SET message_id = 'x'",
            "UPDATE payouts_batch SET file_sha256 = 'x'",
            "TRUNCATE payouts_batch CASCADE",
            "UPDATE payouts_destination_version SET fingerprint = 'x'",
            "UPDATE payouts_destination SET state = 'unverified'",
            "UPDATE payouts_price SET fee_minor = 0",
        ],
    )
    def test_what_is_decided_is_not_rewritten_in_sql(self, home, target, sql):
        operations.set_price(
            organization_id=home.id,
            rail="sct",
            currency="EUR",
            fee_minor=1,
            idempotency_key="p",
            actor=JOB,
            now=NOW,
        )
        factories.export(factories.freeze(request(home, target, 100_00)))

        with connection.cursor() as cursor, pytest.raises(IntegrityError):
            cursor.execute(sql)

    def test_attempts_never_claim_more_than_the_payout(self, home, target):
        payout = request(home, target, 100_00)
        factories.freeze(payout)
        attempt = factories.attempt_of(payout)

        attempt.pk, attempt.number_in_file, attempt.end_to_end_id = payout.id, 2, "x"
        attempt.amount_minor = 1
        attempt._state.adding = True
        with pytest.raises(IntegrityError, match="live_attempts_fit_their_payout"):
            attempt.save(force_insert=True)
