"""The figures behind the charts, and the run of the invariants."""

from datetime import timedelta

import pytest

from apps.backoffice import operations, queries, tasks
from apps.backoffice.models import DailyMetric, InvariantCheck
from apps.banking.models import BankLine
from apps.core import clock, invariants, jobs

pytestmark = pytest.mark.django_db


def money_of(house):
    """Return what the lines themselves say, by day and currency."""
    found = {}
    for line in BankLine.objects.filter(organization_id=house.id):
        came, went = found.get(line.booking_date, (0, 0))
        amount = line.amount_minor
        found[line.booking_date] = (came + max(amount, 0), went + max(-amount, 0))
    return found


def shown(house, days=30):
    listed = queries.list_money(organization_ids=[house.id], today=clock.now().date(), days=days)
    return {
        day.day: (day.money_in, day.money_out)
        for day in listed.get("EUR", [])
        if day.money_in or day.money_out
    }


class TestRollUp:
    def test_says_what_the_bank_lines_say(self, house, db):
        assert shown(house) == money_of(house)

    def test_again_writes_the_same(self, house, db):
        before = list(DailyMetric.objects.values_list("day", "name", "value").order_by("id"))

        operations.roll_up(organization_id=house.id, now=clock.now())

        after = list(DailyMetric.objects.values_list("day", "name", "value").order_by("id"))
        assert after == before

    def test_brings_everything_back_where_the_table_was_emptied(self, house, db):
        DailyMetric.objects.all().delete()

        since = (clock.now() - timedelta(days=40)).date()
        operations.roll_up_since(organization_id=house.id, since=since, now=clock.now())

        assert shown(house) == money_of(house)

    def test_counts_a_day_once_however_the_lines_came(self, house, db):
        list(tasks.roll_up_everything("2026-01-01T00:00Z", clock.now()))

        assert shown(house) == money_of(house)

    def test_leaves_out_days_that_are_not_asked_for(self, house, db):
        assert set(shown(house, days=2)) < set(shown(house))


class TestInvariants:
    def test_are_kept_with_the_time_they_were_checked(self, house, db):
        now = clock.now()

        kept = operations.check_invariants(now=now)

        assert kept.broken == []
        assert kept.statement_count > 40
        assert InvariantCheck.objects.latest("id").checked_at == now

    def test_of_large_books_are_gone_through_in_several_runs(self, house, db):
        names = list(invariants.collect())
        InvariantCheck.objects.create(checked_at=clock.now(), statement_count=0, unanswered=names)

        kept = [operations.check_invariants(now=clock.now(), seconds_max=0)]
        while kept[-1].next_name:
            kept.append(operations.check_invariants(now=clock.now(), seconds_max=0))

        assert len(kept) >= len(names)
        assert kept[0].unanswered == names[1:]
        assert [one.statement_count for one in kept] == sorted(one.statement_count for one in kept)
        assert (kept[-1].unanswered, kept[-1].broken) == ([], [])
        assert kept[-1].statement_count == len(names)

    def test_stay_broken_until_they_are_looked_at_again(self, house, db):
        name = list(invariants.collect())[1]
        InvariantCheck.objects.create(checked_at=clock.now(), statement_count=59, broken=[name])

        first = operations.check_invariants(now=clock.now(), seconds_max=0)
        second = operations.check_invariants(now=clock.now(), seconds_max=0)

        assert first.broken == [name]
        assert second.broken == []

    @pytest.mark.parametrize("seconds", [0, 60], ids=["over several runs", "in one"])
    def test_that_take_too_long_are_unanswered_and_hold_up_no_other(
        self, house, db, monkeypatch, seconds
    ):
        slow = "SELECT organization_id, pg_sleep(60) FROM {rows} AS line"
        walked = invariants.by_id("banking_line", slow)
        at_once = slow.format(rows="banking_line")
        others = dict(list(invariants.collect().items())[:2])
        statements = {"walked": walked, "at_once": at_once} | others
        monkeypatch.setattr(invariants, "collect", lambda: statements)
        InvariantCheck.objects.create(
            checked_at=clock.now(), statement_count=4, broken=["walked", "at_once"]
        )

        def check():
            return operations.check_invariants(
                now=clock.now(), seconds_max=seconds, statement_seconds_max=0.1
            )

        kept = check()
        while kept.next_name:
            kept = check()

        # What was broken stays so, since nothing says that it is not.
        assert (kept.unanswered, kept.statement_count) == (["walked", "at_once"], 2)
        assert kept.broken == ["walked", "at_once"]
        assert kept.next_is_cut is False

    def test_are_answered_again_once_they_are_quick_enough(self, house, db, monkeypatch):
        names = list(invariants.collect())[:2]
        statements = {name: invariants.collect()[name] for name in names}
        monkeypatch.setattr(invariants, "collect", lambda: statements)
        InvariantCheck.objects.create(
            checked_at=clock.now(), statement_count=0, unanswered=names, broken=names[:1]
        )

        kept = operations.check_invariants(now=clock.now())

        assert (kept.unanswered, kept.broken, kept.statement_count) == ([], [], 2)

    def test_of_large_books_take_a_turn_a_time_and_five_a_run(self, house, db, monkeypatch):
        monkeypatch.setattr(operations, "check_invariants", self._one_statement)
        before = InvariantCheck.objects.count()

        steps = list(tasks.check_invariants("", clock.now()))
        later = list(tasks.check_invariants("", clock.now(), "3"))

        assert (steps, later) == (["1", "2", "3", "4", "5"], ["4", "5"])
        assert InvariantCheck.objects.count() == before + 7

    @staticmethod
    def _one_statement(*, now, check=operations.check_invariants):
        return check(now=now, seconds_max=0)

    def test_begin_anew_after_a_place_that_is_gone(self, house, db):
        InvariantCheck.objects.create(
            checked_at=clock.now(), statement_count=59, next_name="of_another_release",
            broken=["of_another_release"],
        )  # fmt: skip

        kept = operations.check_invariants(now=clock.now())

        assert (kept.broken, kept.unanswered, kept.next_name) == ([], [], "")

    def test_that_break_are_named_on_the_home_page(self, browse, house):
        InvariantCheck.objects.create(
            checked_at=clock.now(), statement_count=59, broken=["ledger_trial_balance_is_zero"]
        )

        text = browse("anton").get("/admin/").content.decode()

        assert "1 broken" in text
        assert "ledger_trial_balance_is_zero" in text

    def test_that_are_unanswered_are_named_there_too(self, browse, house):
        InvariantCheck.objects.create(
            checked_at=clock.now(), statement_count=59, unanswered=["ledger_link_has_its_entry"]
        )

        text = browse("anton").get("/admin/").content.decode()

        assert "1 unanswered" in text
        assert "ledger_link_has_its_entry" in text


def test_both_jobs_are_declared():
    assert {"backoffice.roll_up", "backoffice.check_invariants"} <= set(jobs._jobs)
