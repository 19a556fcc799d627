"""What has had its time goes, in portions; what somebody may still need stays."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from apps.core import idempotency, invariants, jobs, retention, transactions, working
from apps.core.ids import first_id, new_id
from apps.core.models import EventWork, IdempotencyKey, JobRun, OutboxBatch
from tests.core.events_of_tests import NOW, ORGANIZATION, OTHER, opened, publish
from tests.support import cleaning

pytestmark = pytest.mark.django_db(transaction=True)

LATER = NOW + timedelta(days=200)


@transactions.outermost
def use_key(key, *, organization_id=ORGANIZATION, part="one"):
    return idempotency.claim(organization_id, key, "tests.act", part)


def age_keys(*keys, days):
    IdempotencyKey.objects.filter(key__in=keys).update(
        created_at=datetime.now(UTC) - timedelta(days=days)  # noqa: TID251  (the database's clock)
    )


def fill(age):
    """Make a thousand keys, each of an age that is SQL of its number `n`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO core_idempotency_key (organization_id, key, operation, fingerprint,"
            " prefix, resource_id, created_at)"
            f" SELECT '{ORGANIZATION}', 'k' || n, 'tests.act', '', '', gen_random_uuid(),"
            f" now() - {age} FROM generate_series(1, 1000) AS n"
        )


class TestFirstId:
    @pytest.mark.parametrize("later", [0, 1, 86_400_000])
    def test_is_below_what_is_made_then_or_later(self, monkeypatch, later):
        at = NOW + timedelta(milliseconds=later)
        made = first_id(at).int | 0x7 << 76 | 0b10 << 62

        assert first_id(NOW).int < made
        assert first_id(at + timedelta(milliseconds=1)).int > made

    def test_is_above_what_was_made_before_and_below_what_comes(self):
        before = new_id()
        soon = datetime.now(UTC) + timedelta(hours=1)  # noqa: TID251  (ids are of that clock)

        assert before < first_id(soon)
        assert first_id(soon - timedelta(hours=2)) < before


class TestKeys:
    def test_stand_for_thirty_days(self):
        for key in ("old", "young", "new"):
            use_key(key)
        use_key("old", organization_id=OTHER)
        age_keys("old", days=30.01)
        age_keys("young", days=29.99)

        list(retention.purge_idempotency_keys("", NOW, ""))

        assert set(IdempotencyKey.objects.values_list("key", flat=True)) == {"young", "new"}
        assert use_key("young").replayed
        # Forgotten, it may stand for something else.
        assert not use_key("old", part="another").replayed

    def test_go_in_portions_and_whoever_is_stopped_goes_on(self, monkeypatch):
        monkeypatch.setattr(retention, "PORTION", 2)
        for number in range(7):
            use_key(f"key-{number}")
        age_keys(*(f"key-{number}" for number in range(7)), days=31)
        removing = retention._remove
        calls = []

        def stopped(*arguments):
            if len(calls) == 2:
                raise KeyboardInterrupt
            calls.append(arguments)
            return removing(*arguments)

        monkeypatch.setattr(retention, "_remove", stopped)
        with pytest.raises(KeyboardInterrupt):
            list(retention.purge_idempotency_keys("", NOW, ""))
        assert IdempotencyKey.objects.count() == 3

        monkeypatch.setattr(retention, "_remove", removing)
        list(retention.purge_idempotency_keys("", NOW, ""))
        assert IdempotencyKey.objects.count() == 0

    def test_are_found_on_every_page_wherever_a_pass_begins(self, monkeypatch):
        monkeypatch.setattr(retention, "_PAGES", 1)
        fill("interval '31 days' * (n % 2)")

        removed = retention.purge(
            "core_idempotency_key", over="created_at < now() - interval '30 days'"
        )

        assert removed == 500
        assert IdempotencyKey.objects.count() == 500

    def test_are_gone_through_to_the_end_turn_by_turn(self, monkeypatch):
        # Each page that tests before it left empty would be a turn.
        with cleaning() as cursor:
            cursor.execute("TRUNCATE core_idempotency_key")
        monkeypatch.setattr(retention, "_PAGES", 1)
        monkeypatch.setattr(retention, "PORTION", 7)
        monkeypatch.setattr(working, "TURN_SECONDS", -1.0)
        for number in range(300):
            use_key(f"key-{number}")
        age_keys(*(f"key-{number}" for number in range(0, 300, 2)), days=31)
        row = JobRun.objects.create(
            kind="core.purge_idempotency_keys", period="2026-11-02T06:00Z", due_at=NOW
        )

        while working.work_due(jobs.RUNNING):
            pass

        row.refresh_from_db()
        assert (row.state, row.last_error_code) == ("done", "")
        assert row.turns > 2
        assert IdempotencyKey.objects.count() == 150

    def test_are_looked_for_from_where_the_turn_before_ended(self, monkeypatch):
        monkeypatch.setattr(retention, "_PAGES", 1)
        fill("interval '31 days'")
        steps = retention.purge_idempotency_keys("", NOW, "")
        place = next(place for place in steps if IdempotencyKey.objects.count() < 1000)
        assert IdempotencyKey.objects.count() > 0

        beyond = list(retention.purge_idempotency_keys("", NOW, place))

        assert beyond[0] == str(int(place) + 1)
        assert IdempotencyKey.objects.count() == 0

    def test_are_left_for_the_next_pass_when_the_time_is_up(self):
        use_key("old")
        age_keys("old", days=31)

        assert retention.purge("core_idempotency_key", over="TRUE", seconds=0) == 0
        assert IdempotencyKey.objects.exists()


class TestEventWork:
    @staticmethod
    def put(*, batch_id, state="done"):
        return EventWork.objects.create(
            organization_id=ORGANIZATION, batch_id=batch_id, consumer="tests", state=state
        )

    def test_that_is_done_goes_once_its_events_are_gone(self):
        publish(opened())
        kept = self.put(batch_id=OutboxBatch.objects.get().id)
        self.put(batch_id=new_id())

        list(retention.purge_event_work("", NOW, ""))

        assert list(EventWork.objects.all()) == [kept]

    @pytest.mark.parametrize("state", ["pending", "leased", "failed", "quarantined", "paused"])
    def test_that_is_not_done_stays(self, state):
        self.put(batch_id=new_id(), state=state)

        list(retention.purge_event_work("", NOW, ""))

        assert EventWork.objects.count() == 1


class TestJobRuns:
    @staticmethod
    def put(days, *, state="done", kind="tests.a", is_success=True):
        at = datetime.now(UTC) - timedelta(days=days)  # noqa: TID251  (the database's clock)
        JobRun.objects.create(
            kind=kind, period=f"{days}", due_at=at, state=state,
            finished_at=at if state == "done" and is_success else None,
        )  # fmt: skip

    @staticmethod
    def left():
        rows = JobRun.objects.order_by("kind", "-due_at")
        return [f"{row.kind[-1]}{row.period}" for row in rows]

    def test_are_kept_for_ninety_days(self):
        for days in (1, 89, 91, 200):
            self.put(days)

        retention.purge_job_runs("", NOW)

        assert self.left() == ["a1", "a89"]

    def test_keep_the_newest_period_and_the_newest_success(self, monkeypatch):
        self.put(200)
        self.put(150, is_success=False)
        self.put(100, state="pending")
        self.put(300, kind="tests.b")

        retention.purge_job_runs("", NOW)

        assert self.left() == ["a100", "a150", "a200", "b300"]

    def test_that_are_not_done_stay(self):
        self.put(1)
        for days, state in enumerate(("pending", "leased", "failed", "quarantined"), 100):
            self.put(days, state=state)

        retention.purge_job_runs("", NOW)

        assert self.left() == ["a1", "a100", "a101", "a102", "a103"]


class TestJobs:
    def test_are_declared(self):
        kinds = {job.kind for job in jobs.declared() if job.kind.startswith("core.")}

        assert kinds == {
            "core.analyze_weeks",
            "core.drop_weeks",
            "core.keep_weeks",
            "core.purge_event_work",
            "core.purge_idempotency_keys",
            "core.purge_job_runs",
        }

    def test_leave_nothing_broken(self):
        for job in jobs.declared():
            if job.kind.startswith("core.purge"):
                list(job.steps("", LATER, ""))

        assert invariants.breaches() == []
