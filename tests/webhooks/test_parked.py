"""Events that come before what they are about: found at once when it appears, and not for ever."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial

import pytest
from celery import current_app
from django.db import connection as database

from apps.core import clock, nudging, transactions, work, working
from apps.core import operations as core
from apps.core.errors import InvariantBroken
from apps.webhooks import operations, tasks
from tests.accounts.factories import create_organization
from tests.support import empty_broker, past_the_guards, race, wait_until
from tests.webhooks import things
from tests.webhooks.factories import TESTS
from tests.webhooks.inbox import age, broken, connect, kept, make_due, outcomes, say, work_all
from tests.webhooks.things import Failing, NotNow, Things, appear, standing

pytestmark = pytest.mark.usefixtures("known_things")


class TestParked:
    def test_waits_as_long_as_it_has_waited(self, connection):
        say(connection, "thing.paid")
        waits = []
        for hours in (0, 0.5, 2, 60):
            past_the_guards(
                "UPDATE webhooks_inboundevent SET received_at ="
                f" now() - interval '{hours} hours', next_attempt_at = now()"
            )
            work_all()
            [event] = kept()
            assert (event.state, event.outcome) == ("pending", "parked")
            assert event.last_error_code == "object_unknown"
            waits.append((event.next_attempt_at - clock.now()).total_seconds())

        for waited, wanted in zip(waits, (1, 1800, 3600, 3600), strict=True):
            assert wanted - 60 < waited < wanted + 60

    def test_is_worked_at_once_when_its_object_appears(self, organization, connection, monkeypatch):
        say(connection, "thing.paid", message_id="msg_1")
        age(hours=10)
        work_all()
        assert work.due_kinds() == []
        empty_broker()
        monkeypatch.setattr(nudging, "_nudger", nudging.Nudger())

        appear(organization, "thing_1")

        # It is due, and a worker is told.
        assert [kind.name for kind in work.due_kinds()] == ["webhooks.inbound"]
        with current_app.connection_for_read() as broker:
            hint = broker.default_channel.basic_get("events", no_ack=True)
        assert hint.headers["task"] == "webhooks.work_inbound"
        work_all()
        assert standing(organization, "thing_1") == (3, ["msg_1"])

    def test_is_not_lost_to_a_worker_that_looks_meanwhile(self, organization, connection):
        """Old events, looked at once an hour: none may wait another one."""
        for number in range(12):
            say(connection, "thing.paid", f"thing_{number}")
        age(hours=10)
        work_all()
        assert set(outcomes()) == {"parked"}
        make_due()

        race(
            *(partial(appear, organization, f"thing_{number}") for number in range(12)),
            *[work_all] * 3,
        )
        work_all()

        assert outcomes() == ["applied"] * 12

    def test_is_waited_for_by_who_makes_its_object_known(self, organization, connection):
        looked, go_on = threading.Event(), threading.Event()

        class Slow(Things):
            def lock(self, message):
                found = super().lock(message)
                looked.set()
                assert go_on.wait(30)
                return found

        things.register(Slow())
        say(connection, "thing.paid")
        age(hours=10)

        def make_known():
            assert looked.wait(30)
            appear(organization, "thing_1")

        def let_go():
            wait_until(is_anybody_waiting)
            go_on.set()

        race(make_known, let_go, partial(working.work_due, tasks.INBOUND))

        [event] = kept()
        assert (event.outcome, event.state) == ("parked", "pending")
        assert [kind.name for kind in work.due_kinds()] == ["webhooks.inbound"]
        work_all()
        assert outcomes() == ["applied"]

    def test_of_another_organization_or_object_goes_on_waiting(self, organization, connection):
        other = create_organization()
        say(connect(other), "thing.paid", "thing_1")
        say(connection, "thing.paid", "thing_2")
        age(hours=10)
        work_all()

        appear(organization, "thing_1")
        work_all()

        assert outcomes() == ["parked", "parked"]
        assert standing(organization, "thing_1") == (0, [])

    def test_is_given_up_after_three_days_for_a_person(self, organization, connection):
        say(connection, "thing.paid", message_id="msg_1")
        age(hours=71)
        work_all()
        assert outcomes() == ["parked"]

        age(hours=1)
        work_all()

        [event] = kept()
        assert (event.state, event.outcome) == ("failed", "unmatched")
        make_due()
        work_all()
        assert outcomes() == ["unmatched"]
        assert broken() == []

    def test_released_is_looked_at_again(self, organization, connection):
        say(connection, "thing.paid", message_id="msg_1")
        age(hours=80)
        work_all()
        [event] = kept()
        release = partial(
            core.release_work,
            kind_name=operations.INBOUND_KIND,
            row_id=event.id,
            reason="The payment is there now.",
            actor=TESTS,
        )

        release()
        work_all()
        assert outcomes() == ["unmatched"]
        appear(organization, "thing_1")
        release()
        work_all()

        assert outcomes() == ["applied"]
        assert standing(organization, "thing_1") == (3, ["msg_1"])

    def test_released_after_its_body_is_gone_waits_for_a_person_again(
        self, organization, connection
    ):
        say(connection, "thing.paid")
        age(hours=91 * 24)
        work_all()
        operations.purge_inbound_bodies()
        appear(organization, "thing_1")

        core.release_work(
            kind_name=operations.INBOUND_KIND,
            row_id=kept()[0].id,
            reason="The payment is there now.",
            actor=TESTS,
        )
        work_all()

        [event] = kept()
        assert (event.state, event.outcome, event.last_error_code) == (
            "failed",
            "unmatched",
            "body_gone",
        )
        assert standing(organization, "thing_1") == (0, [])

    def test_looks_are_no_tries(self, organization, connection):
        say(connection, "thing.paid")
        for _ in range(work.ATTEMPTS_MAX + 3):
            make_due()
            work_all()
        things.register(Failing())
        make_due()

        work_all()

        [event] = kept()
        assert (event.state, event.attempts) == ("pending", 1)


def is_anybody_waiting():
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone()[0] > 0


class TestMatching:
    def test_is_refused_outside_the_transaction_that_makes_it_known(self, organization):
        with pytest.raises(InvariantBroken):
            operations.match_parked(
                organization_id=organization.id, provider="sandbox", object_key="thing_1"
            )

    def test_of_a_transaction_that_is_rolled_back_finds_nothing(self, organization, connection):
        say(connection, "thing.paid")
        age(hours=10)
        work_all()

        @transactions.outermost
        def fail():
            operations.match_parked(
                organization_id=organization.id, provider="sandbox", object_key="thing_1"
            )
            raise NotNow("Not now.")

        with pytest.raises(NotNow):
            fail()

        assert kept()[0].next_attempt_at > clock.now() + timedelta(minutes=50)
