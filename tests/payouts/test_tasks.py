from datetime import date, timedelta

import pytest

from apps.core import context, jobs, work, working
from apps.payouts import operations, queries, tasks
from apps.payouts.models import BatchWork, Payout, PayoutBatch
from tests.payouts import factories, people
from tests.payouts.factories import CUT_OFF, NOW, request

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

pytestmark = pytest.mark.django_db(transaction=True)


class TestFreezeDue:
    def test_freezes_at_the_cut_off_and_not_before(self, home, target):
        request(home, target, 100_00)

        list(tasks.freeze_due("", CUT_OFF - timedelta(seconds=1)))
        early = PayoutBatch.objects.count()
        for _ in range(2):
            list(tasks.freeze_due("", CUT_OFF))

        assert (early, PayoutBatch.objects.count()) == (0, 1)

    def test_freezes_all_that_does_not_fit_into_one_file(self, home, target, settings):
        settings.PAYOUT_BATCH_MAX = 2
        for number in range(5):
            request(home, target, 1_00, remittance=f"{number}")

        list(tasks.freeze_due("", CUT_OFF))

        counts = PayoutBatch.objects.order_by("id").values_list("attempt_count", flat=True)
        assert list(counts) == [2, 2, 1]

    def test_is_planned_every_minute(self):
        assert {"payouts.freeze", "payouts.end_cooldowns"} <= set(jobs._jobs)

    def test_one_that_breaks_holds_up_nobody_else(self, home, target, monkeypatch):
        request(home, target, 100_00, remittance="today")
        request(home, target, 100_00, wished_date=date(2026, 11, 25))
        freeze = operations.freeze_batch

        def broken(*, key, **more):
            if key.execution_date == date(2026, 11, 24):
                raise RuntimeError
            return freeze(key=key, **more)

        monkeypatch.setattr(operations, "freeze_batch", broken)

        list(tasks.freeze_due("", CUT_OFF + timedelta(days=1)))

        assert PayoutBatch.objects.get().execution_date == date(2026, 11, 25)

    def test_ends_when_its_time_is_over_and_keeps_what_it_froze(
        self, home, target, settings, monkeypatch
    ):
        for number in range(2):
            request(home, target, 1_00, remittance=f"{number}")
        settings.PAYOUT_BATCH_MAX = 1
        freeze, frozen = operations.freeze_batch, []

        def slow(**more):
            if frozen:
                raise working.OutOfTime
            frozen.append(freeze(**more))
            return frozen[0]

        monkeypatch.setattr(operations, "freeze_batch", slow)

        with pytest.raises(working.OutOfTime):
            list(tasks.freeze_due("", CUT_OFF))

        states = Payout.objects.order_by("id").values_list("state", flat=True)
        assert list(states) == ["batched", "scheduled"]


class TestWorkBatches:
    def test_a_batch_goes_from_frozen_to_waiting_for_a_person(self, home, target):
        batch = factories.freeze(request(home, target, 100_00))

        # Its export, and then its sending.
        assert (tasks.work_batches(), tasks.work_batches()) == (2, 0)

        batch.refresh_from_db()
        # The manual channel sends nothing: staff download the file and say when it left.
        assert (batch.state, batch.send_started_at) == ("exported", None)
        assert set(BatchWork.objects.values_list("state", flat=True)) == {"done"}

    def test_each_step_of_a_batch_is_in_the_trace_of_the_act_that_froze_it(self, home, target):
        payout = request(home, target, 100_00)
        with context.in_trace(TRACE):
            factories.freeze(payout)

        tasks.work_batches()

        traces = dict(BatchWork.objects.values_list("step", "traceparent"))
        assert traces == {"export": TRACE, "send": TRACE}

    def test_a_batch_that_needs_people_waits_for_them(self, home, target, customer):
        from apps.approvals import operations as approvals  # noqa: PLC0415
        from apps.approvals import queries as asked  # noqa: PLC0415
        from apps.approvals.rules import Policy, Step  # noqa: PLC0415

        one = people.approver()
        approvals.propose_policy(
            organization_id=home.id,
            act=operations.RELEASE_ACT,
            policy=Policy(otherwise=(Step("finance_approver", 1),)),
            reason="two people release",
            idempotency_key="p",
            actor=one,
            now=NOW,
        )
        other = people.approver()
        [change] = asked.list_open_requests(organization_id=home.id)
        approve = {"organization_id": home.id, "verdict": "approve", "reason": "yes", "now": NOW}
        approvals.decide_approval(**approve, request_id=change.id, idempotency_key="a", actor=other)
        batch = factories.freeze(request(home, target, 100_00))
        tasks.work_batches()
        batch.refresh_from_db()
        assert (batch.state, tasks.work_batches()) == ("frozen", 0)

        [release] = asked.list_open_requests(organization_id=home.id)
        approvals.decide_approval(**approve, request_id=release.id, idempotency_key="b", actor=one)
        tasks.work_batches()

        batch.refresh_from_db()
        assert batch.state == "exported"

    def test_a_step_that_breaks_is_tried_again_and_holds_up_no_other(
        self, home, target, monkeypatch
    ):
        factories.freeze(request(home, target, 100_00))

        def broken(row):
            raise RuntimeError

        monkeypatch.setitem(tasks._STEPS, "export", broken)
        assert tasks.work_batches() == 1

        row = BatchWork.objects.get()
        assert (row.state, row.last_error_code) == (work.WorkState.PENDING, "RuntimeError")


class TestEndCooldowns:
    def test_lets_go_on_what_is_over(self, home, customer, settings):
        settings.PAYOUT_COOLDOWN_HOURS = 24
        payout = request(home, factories.destination(home, customer), 100_00)

        list(tasks.end_cooldowns("", NOW + timedelta(hours=23)))
        list(tasks.end_cooldowns("", NOW + timedelta(hours=24)))

        payout.refresh_from_db()
        assert payout.state == "scheduled"
        assert queries.list_cooled_down(now=NOW + timedelta(hours=30)) == []

    def test_one_that_cannot_go_on_holds_up_no_other(self, home, customer, settings):
        settings.PAYOUT_COOLDOWN_HOURS = 24
        target = factories.destination(home, customer)
        stuck = request(home, target, 100_00)
        other = request(home, target, 50_00, now=NOW + timedelta(minutes=1))
        # A day beyond the calendar: an operation refuses to take it.
        Payout.objects.filter(id=stuck.id).update(wished_date=date(2999, 1, 1))

        list(tasks.end_cooldowns("", NOW + timedelta(hours=25)))

        other.refresh_from_db()
        stuck.refresh_from_db()
        assert (stuck.state, other.state) == ("held", "scheduled")
