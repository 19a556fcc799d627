"""What becomes of an event of a provider: by rank, once, whenever it came and whoever died."""

from __future__ import annotations

import itertools
from datetime import timedelta
from functools import partial

import pytest
from celery import current_app

from apps.core import clock, work
from apps.core.models import OutboxEvent
from apps.webhooks import operations, registry
from apps.webhooks.models import InboundEvent
from apps.webhooks.rules import inbound
from tests.support import empty_broker, past_the_guards, race
from tests.webhooks import things
from tests.webhooks.factories import TESTS
from tests.webhooks.inbox import (
    PRIVATE,
    broken,
    kept,
    make_due,
    message,
    outcomes,
    say,
    tell,
    work_all,
)
from tests.webhooks.things import (
    Failing,
    NotNow,
    Things,
    appear,
    are_final,
    standing,
    tell_each,
    tell_of,
)

pytestmark = pytest.mark.usefixtures("known_things")

TYPES = tuple(things.RANKS)


class TestRanks:
    def test_an_event_takes_its_object_forward(self, organization, connection):
        appear(organization, "thing_1")

        say(connection, "thing.paid", message_id="msg_1")
        work_all()

        assert standing(organization, "thing_1") == (3, ["msg_1"])
        [event] = kept()
        assert (event.state, event.outcome, event.rank) == ("done", "applied", 3)
        told = OutboxEvent.objects.get(type="thing.changed")
        assert (event.effect_type, event.effect_id, event.effect_sequence) == (
            told.aggregate_type,
            told.aggregate_id,
            told.sequence,
        )
        assert told.actor == "job:webhooks.inbox"
        assert broken() == []

    @pytest.mark.parametrize("rank", [3, 4])
    def test_the_same_or_a_lower_rank_has_no_effect(self, organization, connection, rank):
        appear(organization, "thing_1", rank=rank)

        say(connection, "thing.paid")
        work_all()

        assert standing(organization, "thing_1") == (rank, [])
        [event] = kept()
        assert (event.state, event.outcome, event.effect_id) == ("done", "superseded", "")
        assert OutboxEvent.objects.filter(type="thing.changed").count() == 0

    def test_nothing_moves_what_is_final(self, organization, connection, monkeypatch):
        monkeypatch.setitem(things.RANKS, "thing.paid", 7)
        appear(organization, "thing_1", rank=things.FINAL)

        say(connection, "thing.paid")
        work_all()

        assert standing(organization, "thing_1") == (things.FINAL, [])
        assert outcomes() == ["superseded"]

    def test_every_order_of_arrival_ends_alike(self, organization, connection):
        for number, order in enumerate(itertools.permutations(TYPES)):
            key = f"thing_{number}"
            appear(organization, key)
            forward = [0]
            for type_ in order:
                say(connection, type_, key, message_id=f"{number}-{things.RANKS[type_]}")
                work_all()
                forward += [things.RANKS[type_]] if things.RANKS[type_] > forward[-1] else []

            effects = [f"{number}-{rank}" for rank in forward[1:]]
            assert standing(organization, key) == (things.FINAL, effects)

        done = InboundEvent.objects.values_list("outcome", flat=True)
        assert len(done) == 24 * 4
        assert set(done) == {"applied", "superseded"}
        assert broken() == []

    def test_every_order_of_working_at_once_ends_alike(self, organization, connection):
        for number in range(6):
            tell_each(organization, connection, number)

        race(*[work_all] * 4)
        work_all()

        assert are_final(6, organization)
        assert InboundEvent.objects.filter(state="done").count() == 24
        assert broken() == []


class TestOnce:
    def test_one_event_sent_ten_times_at_once_has_one_effect(self, organization, connection):
        appear(organization, "thing_1")

        race(*[partial(say, connection, "thing.paid", message_id="msg_1")] * 10, work_all, work_all)
        work_all()

        assert standing(organization, "thing_1") == (3, ["msg_1"])
        assert outcomes() == ["applied"]

    def test_ten_times_out_of_order_before_its_object_is_known(self, organization, connection):
        """Case 13: it is sent before our own call to the provider has returned."""
        calls = [
            partial(say, connection, type_, message_id=f"msg_{things.RANKS[type_]}")
            for type_ in reversed(TYPES)
        ] * 10

        race(*calls[:20], work_all)
        race(*calls[20:], work_all)
        work_all()
        assert outcomes() == ["parked"] * 4
        assert OutboxEvent.objects.filter(type="thing.changed").count() == 0
        appear(organization, "thing_1")
        work_all()

        rank, effects = standing(organization, "thing_1")
        assert rank == things.FINAL
        assert len(effects) == len(set(effects)) == outcomes().count("applied")
        assert set(outcomes()) <= {"applied", "superseded"}
        assert broken() == []

    def test_who_lost_the_lease_changes_nothing(self, organization, connection):
        appear(organization, "thing_1")
        say(connection, "thing.paid", message_id="msg_1")
        [slow] = work.claim_due(InboundEvent, limit=1, lease_seconds=60)
        make_due()
        work_all()

        operations.work_event(claimed=slow, actor=TESTS, now=clock.now())

        assert standing(organization, "thing_1") == (3, ["msg_1"])
        [event] = kept()
        assert (event.state, event.outcome, event.last_error_code) == ("done", "applied", "")

    def test_a_crash_between_claim_and_record_loses_nothing(self, organization, connection):
        appear(organization, "thing_1")
        say(connection, "thing.paid", message_id="msg_1")
        work.claim_due(InboundEvent, limit=1, lease_seconds=60)
        work_all()
        assert standing(organization, "thing_1") == (0, [])

        make_due()
        work_all()

        assert standing(organization, "thing_1") == (3, ["msg_1"])
        assert outcomes() == ["applied"]

    def test_a_fault_after_the_effect_takes_the_effect_back(self, organization, connection):
        class Breaking(Things):
            is_broken = True

            def apply(self, subject, message):
                told = super().apply(subject, message)
                if self.is_broken:
                    raise ConnectionError("The process is gone.")
                return told

        handler = Breaking()
        things.register(handler)
        appear(organization, "thing_1")
        say(connection, "thing.paid", message_id="msg_1")
        work_all()
        assert standing(organization, "thing_1") == (0, [])
        assert OutboxEvent.objects.filter(type="thing.changed").count() == 0

        handler.is_broken = False
        make_due()
        work_all()

        assert standing(organization, "thing_1") == (3, ["msg_1"])
        assert outcomes() == ["applied"]


class Refusing(Things):
    def apply(self, subject, message):
        raise NotNow("Not now.")


class TestFaults:
    def test_wait_and_are_tried_again(self, connection):
        things.register(Failing())
        say(connection, "thing.paid")

        work_all()

        [event] = kept()
        assert (event.state, event.outcome, event.attempts) == ("pending", "received", 1)
        assert event.last_error_code == "ValueError"
        assert event.next_attempt_at > clock.now()

    def test_of_a_rule_are_named_by_its_code(self, organization, connection):
        things.register(Refusing())
        appear(organization, "thing_1")
        say(connection, "thing.paid")

        work_all()

        [event] = kept()
        assert (event.state, event.last_error_code) == ("pending", "not_now_of_tests")
        assert standing(organization, "thing_1") == (0, [])

    def test_twelve_times_are_set_aside_for_a_person(self, connection):
        things.register(Failing())
        say(connection, "thing.paid")

        for _ in range(work.ATTEMPTS_MAX):
            make_due()
            work_all()

        [event] = kept()
        assert (event.state, event.outcome, event.attempts) == ("quarantined", "received", 12)

    def test_of_one_hold_up_no_other(self, organization, connection):
        registry.register_inbound(provider="sandbox", type="thing.funded", handler=Failing())
        tell_of(30, organization, connection, but=7)

        work_all()

        assert outcomes().count("applied") == 29
        assert [event.object_key for event in kept() if event.state != "done"] == ["thing_7"]

    def test_never_tell_the_log_what_the_provider_wrote(self, connection, caplog, capfd):
        things.register(Failing())
        with caplog.at_level("DEBUG"):
            say(connection, "thing.paid")
            work_all()

        said = caplog.text + "".join(capfd.readouterr())
        assert "work_failed" in said
        assert "things.py" in said
        assert "Lovelace" not in said
        assert PRIVATE not in said


class TestIgnored:
    def test_is_what_nobody_handles(self, connection):
        say(connection, "thing.renamed")
        tell(connection, b"not json")

        work_all()

        assert [(event.type, event.state, event.outcome) for event in kept()] == [
            ("thing.renamed", "done", "ignored"),
            ("unreadable", "done", "ignored"),
        ]

    def test_is_not_what_this_release_does_not_know(self, connection, monkeypatch):
        say(connection, "thing.paid")
        monkeypatch.setattr(registry, "_providers", {})

        work_all()

        [event] = kept()
        assert (event.state, event.last_error_code) == ("pending", "provider_unknown")


class TestRegistering:
    def test_gives_a_handler_all_but_prints_nothing_of_the_body(self, organization, connection):
        got = []

        class Looking(Things):
            def lock(self, message):
                got.append(message)

        things.register(Looking())
        body = message("thing.paid", "thing_1")
        tell(connection, body, message_id="msg_1")
        work_all()

        [one] = got
        assert (one.organization_id, one.provider, one.type) == (
            organization.id,
            "sandbox",
            "thing.paid",
        )
        assert (one.event_id, one.object_key, one.body) == ("msg_1", "thing_1", body)
        assert "Lovelace" not in repr(one)


class TestRules:
    @pytest.mark.parametrize(
        ("seconds", "wanted"),
        [(-5, 1), (0, 1), (1, 1), (30, 30), (3600, 3600), (259_199, 3600), (259_200, None)],
    )
    def test_look_again_after_as_long_as_was_waited(self, seconds, wanted):
        assert inbound.look_again_seconds(waited=timedelta(seconds=seconds)) == wanted

    @pytest.mark.parametrize("is_final", [False, True])
    def test_forward_is_higher_and_never_past_the_end(self, is_final):
        for rank, at in itertools.product(range(4), repeat=2):
            found = inbound.is_forward(rank=rank, standing=at, is_final=is_final)
            assert found == (rank > at and not is_final)


class TestSweep:
    def test_finds_what_every_message_was_lost_of(self, connection):
        say(connection, "thing.paid")
        empty_broker()

        assert "webhooks.inbound" in [kind.name for kind in work.due_kinds()]
        work.sweep()

        with current_app.connection_for_read() as broker:
            hint = broker.default_channel.basic_get("events", no_ack=True)
        assert hint.headers["task"] == "webhooks.work_inbound"


OF_WHAT_WAS_APPLIED = {
    "inbound_event_applied_has_its_effect": """
        UPDATE webhooks_inboundevent SET effect_sequence = effect_sequence + 9
    """,
    "inbound_events_take_an_object_only_forward": """
        UPDATE webhooks_inboundevent SET rank = 3
    """,
}
OF_WHAT_IS_PARKED = {
    "inbound_event_is_parked_for_three_days_at_most": """
        UPDATE webhooks_inboundevent SET received_at = now() - interval '75 hours'
    """,
    "webhooks_inboundevent_is_not_overdue": """
        UPDATE webhooks_inboundevent SET next_attempt_at = now() - interval '121 s'
    """,
}


class TestInvariants:
    @pytest.mark.parametrize("name", OF_WHAT_WAS_APPLIED)
    def test_of_what_was_applied_are_named_alone(self, organization, connection, name):
        appear(organization, "thing_1")
        for type_ in ("thing.funded", "thing.paid"):
            say(connection, type_)
            work_all()
        assert (outcomes(), broken()) == (["applied"] * 2, [])

        past_the_guards(OF_WHAT_WAS_APPLIED[name])

        assert broken() == [name]

    @pytest.mark.parametrize("name", OF_WHAT_IS_PARKED)
    def test_of_what_waits_are_named_alone(self, connection, name):
        say(connection, "thing.paid")
        work_all()
        assert (outcomes(), broken()) == (["parked"], [])

        past_the_guards(OF_WHAT_IS_PARKED[name])

        assert broken() == [name]
