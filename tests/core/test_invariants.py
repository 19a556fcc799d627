"""Invariants return no row while all is well, and name what is not."""

import pytest
import structlog
from django.core.management import call_command
from django.db.models import NOT_PROVIDED, Field
from structlog.testing import capture_logs

from apps.core import invariants, work
from apps.core.ids import new_id
from apps.webhooks.models import InboundEvent
from tests.core.events_of_tests import NOW, ORGANIZATION, OTHER, opened, publish, relay_and_consume
from tests.support import past_the_guards

pytestmark = pytest.mark.django_db(transaction=True)

# What breaks each invariant of the core, where two batches of one aggregate are in the feed.
BREAKS = {
    "batch_is_relayed_within_a_minute": """
        UPDATE core_outbox_batch SET position = NULL, inserted_at = now() - interval '61 s'
         WHERE position = 2; UPDATE core_feed_head SET last_position = 1
    """,
    "feed_head_is_its_last_position": "UPDATE core_feed_head SET last_position = 3",
    "feed_positions_have_no_hole": """
        UPDATE core_outbox_batch SET position = NULL, public = FALSE WHERE position = 1
    """,
    "feed_position_is_given_once": """
        UPDATE core_outbox_batch SET id = (kassa_first_id('2100-01-01')) WHERE position = 1;
        UPDATE core_outbox_event SET batch_id = kassa_first_id('2100-01-01') WHERE sequence = 1;
        UPDATE core_outbox_batch SET position = 1; UPDATE core_feed_head SET last_position = 1
    """,
    "batch_has_its_events": "UPDATE core_outbox_batch SET event_count = 2 WHERE position = 1",
    "events_of_an_aggregate_have_no_hole": """
        UPDATE core_outbox_event SET sequence = 3 WHERE sequence = 2
    """,
    "events_of_an_entry_have_no_hole": """
        UPDATE core_outbox_event SET aggregate_type = 'journal_entry', sequence = sequence + 2
    """,
    "event_has_a_sequence_of_its_own": """
        UPDATE core_outbox_event SET sequence = 1 WHERE sequence = 2
    """,
}
FEED_BEGINS_AT_2 = """
    DELETE FROM core_outbox_event WHERE sequence = 1;
    DELETE FROM core_outbox_batch WHERE position = 1;
    UPDATE core_feed_head SET dropped_position = 1
"""
# Of what is left, all came in the first hour that is kept, or all came later.
IN_ITS_FIRST_HOUR, LATER = (
    "; UPDATE core_feed_head SET kept_since ="
    f" (SELECT MIN(recorded_at) FROM core_outbox_event) - interval '{before}'"
    for before in ("10 minutes", "2 hours")
)
OURS = f"AND organization_id = '{ORGANIZATION}'"
NO_MIDDLE = "DELETE FROM core_outbox_event WHERE sequence = 2"
OF_AN_ENTRY = "UPDATE core_outbox_event SET aggregate_type = 'journal_entry', sequence = sequence"
# By invariant, what each of its conditions is there for, and whether that breaks it. In the feeds
# of two organisations are three batches each, of one aggregate that both call the same.
CONDITIONS = {
    "feed_positions_have_no_hole": [
        (FEED_BEGINS_AT_2, False),
        (f"{FEED_BEGINS_AT_2} - 1", True),
        (f"{BREAKS['feed_positions_have_no_hole']} {OURS}", True),
        (f"{BREAKS['feed_positions_have_no_hole']}; DELETE FROM core_feed_head", True),
    ],
    "batch_has_its_events": [
        ("UPDATE core_outbox_batch SET event_count = event_count - 1", True),
        ("UPDATE core_outbox_batch SET event_count = event_count + 1", True),
    ],
    "events_of_an_aggregate_have_no_hole": [
        (f"{NO_MIDDLE} {OURS}", True),
        ("UPDATE core_outbox_event SET public = FALSE WHERE sequence = 2", True),
        ("UPDATE core_outbox_event SET aggregate_type = 'x' WHERE sequence = 2", True),
        (f"{FEED_BEGINS_AT_2}{LATER}", False),
        (f"{NO_MIDDLE}{LATER}", True),
        (f"{NO_MIDDLE}{IN_ITS_FIRST_HOUR}", False),
    ],
    "events_of_an_entry_have_no_hole": [
        (f"{OF_AN_ENTRY} + 1", False),
        (f"{OF_AN_ENTRY} + 2", True),
        # Written anew, the first lies behind the others.
        (f"{OF_AN_ENTRY} + 1; {OF_AN_ENTRY} WHERE sequence = 2", False),
        (f"{NO_MIDDLE}; {OF_AN_ENTRY} + 1{LATER}", True),
        (f"{NO_MIDDLE}; {OF_AN_ENTRY} + 1{IN_ITS_FIRST_HOUR}", False),
        (f"{OF_AN_ENTRY} + 2{LATER}", False),
    ],
    "event_has_a_sequence_of_its_own": [
        ("UPDATE core_outbox_event SET sequence = 1, public = FALSE WHERE sequence = 2", False),
        ("UPDATE core_outbox_event SET sequence = 1, aggregate_id = 'x' WHERE sequence = 2", False),
        (
            "UPDATE core_outbox_event SET sequence = 1, aggregate_type = 'x' WHERE sequence = 2",
            False,
        ),
    ],
}
BATCHES = {"batch_has_its_events": invariants.INVARIANTS["batch_has_its_events"]}
WORK_TABLES = sorted({kind.model._meta.db_table for kind in work.kinds()})
_FILLERS = {"BooleanField": bool, "DateTimeField": lambda: NOW, "UUIDField": new_id}


def broken() -> list[str]:
    return [breach.name for breach in invariants.breaches()]


def wanting(field: Field) -> bool:
    """Say whether a row cannot be written without a value for this field."""
    is_given = field.has_default() or field.db_default is not NOT_PROVIDED
    return not (is_given or field.null or field.empty_strings_allowed)


def put_work(model: type[work.WorkRow], **values: object) -> None:
    """Put a row of work into its table, about nothing that is there."""
    filled = {
        field.attname: new_id()
        if field.is_relation
        else _FILLERS.get(field.get_internal_type(), int)()
        for field in model._meta.concrete_fields
        if wanting(field)
    }
    past_the_guards(model(**filled | values).save)


class TestCollect:
    def test_has_every_apps_own_under_names_of_their_own(self):
        by_app = [
            invariants.collect(only_apps=frozenset({label}))
            for label in ("core", "ledger", "webhooks", "payouts")
        ]

        assert sum(map(len, by_app)) == len(set().union(*by_app))
        assert set().union(*by_app) <= set(invariants.collect())


class TestCheck:
    @pytest.fixture
    def feed(self):
        """Two batches of one aggregate, relayed and consumed."""
        publish(opened("a", sequence=1))
        publish(opened("a", sequence=2))
        relay_and_consume()

    def test_finds_nothing_where_all_is_well(self, feed):
        publish(opened("a", sequence=3), opened("b"))
        relay_and_consume()

        assert broken() == []

    @pytest.mark.parametrize("name", BREAKS)
    def test_names_the_one_that_is_broken(self, feed, name):
        past_the_guards(BREAKS[name])

        assert broken() == [name]

    def test_can_break_each_of_the_core(self):
        assert set(invariants.INVARIANTS) == set(BREAKS)

    @pytest.mark.parametrize("place", [1, 2])
    def test_finds_what_is_broken_in_any_portion(self, feed, place):
        past_the_guards(f"UPDATE core_outbox_batch SET event_count = 9 WHERE position = {place}")

        steps = list(invariants.steps(BATCHES, portion=1))

        assert len(steps) == place
        assert [step.is_done for step in steps] == [False] * (place - 1) + [True]
        assert [row["event_count"] for row in steps[-1].breach.rows] == [9]

    def test_goes_on_where_it_stopped_through_the_rows_of_all_organizations(self, feed):
        publish(opened("b", organization_id=OTHER))

        steps = list(invariants.steps(BATCHES, portion=1))

        # Two batches and one, what is beyond them of each organization, and the end.
        assert [step.is_done for step in steps] == [False] * 5 + [True]
        places = [(step.following.organization_id, step.following.key) for step in steps[:-1]]
        assert places == sorted(set(places))
        again = list(invariants.steps(BATCHES, start=steps[1].following, portion=1))
        assert again == steps[2:]

    @pytest.mark.parametrize(
        "slow",
        [
            "SELECT organization_id, pg_sleep(60) FROM core_outbox_batch",
            invariants.by_organization(
                "core_outbox_batch",
                "SELECT batch.organization_id, pg_sleep(60) FROM {rows} AS batch",
            ),
        ],
        ids=["at once", "walked"],
    )
    def test_cuts_off_what_takes_too_long_and_goes_on(self, feed, slow, monkeypatch):
        # One that was used before may write where it was told to then.
        monkeypatch.setattr(invariants, "log", structlog.get_logger())
        statements = {"slow": slow} | BATCHES

        with capture_logs() as said:
            steps = list(invariants.steps(statements, seconds_max=0.1))

        cut = [step for step in steps if step.is_cut]
        assert {step.name for step in cut} == {"slow"}
        assert [step.breach for step in steps] == [None] * len(steps)
        assert [step.name for step in steps if step.is_done] == ["slow", *BATCHES]
        assert [(one["event"], one["invariant"]) for one in said] == [
            ("invariant_cut_off", "slow")
        ] * len(cut)

    def test_looks_at_one_organization_where_that_is_asked(self, feed):
        past_the_guards("UPDATE core_outbox_batch SET event_count = 9 WHERE position = 1")

        names = {
            owner: [
                name
                for name, breach in invariants.check(invariants.INVARIANTS, organization_id=owner)
                if breach is not None
            ]
            for owner in (ORGANIZATION, OTHER)
        }

        assert names == {ORGANIZATION: ["batch_has_its_events"], OTHER: []}

    def test_shows_the_first_rows(self):
        publish(opened("a", sequence=2))

        [(_, breach)] = [
            found for found in invariants.check(invariants.INVARIANTS) if found[1] is not None
        ]

        assert breach.rows == (
            {
                "organization_id": ORGANIZATION,
                "aggregate_type": "ledger_account",
                "aggregate_id": "la_a",
                "sequence": 2,
            },
        )


class TestConditions:
    @pytest.fixture
    def feeds(self):
        for organization in (ORGANIZATION, OTHER):
            for sequence in (1, 2, 3):
                publish(
                    opened("a", sequence=sequence, organization_id=organization),
                    opened(f"b{sequence}", organization_id=organization),
                )
        relay_and_consume()

    def test_hold_in_two_feeds_that_call_things_the_same(self, feeds):
        assert broken() == []

    @pytest.mark.parametrize(
        ("name", "statement", "breaks"),
        [(name, *each) for name, statements in CONDITIONS.items() for each in statements],
    )
    def test_of_each_are_asked_for(self, feeds, name, statement, breaks):
        past_the_guards(statement)

        assert (name in broken()) == breaks


class TestWork:
    """Of every kind that is registered, also of one that comes later."""

    @pytest.fixture(params=WORK_TABLES)
    def model(self, request):
        [model] = {
            kind.model for kind in work.kinds() if kind.model._meta.db_table == request.param
        }
        return model

    @pytest.mark.parametrize("state", work.OPEN)
    def test_is_overdue_two_minutes_after_it_was_due(self, model, state):
        put_work(model, state=state)
        table = model._meta.db_table
        due = f"UPDATE {table} SET next_attempt_at = now() - interval"

        past_the_guards(f"{due} '110 s'")
        assert broken() == []
        past_the_guards(f"{due} '121 s'")
        assert broken() == [f"{table}_is_not_overdue"]

    @pytest.mark.parametrize("state", sorted(set(work.WorkState) - set(work.OPEN)))
    def test_is_not_overdue_once_it_is_no_longer_open(self, model, state):
        # Of a provider's event the table asks that what came of it is known then.
        ends = {"done": "ignored", "failed": "unmatched"} if model is InboundEvent else {}
        known = {"outcome": ends[state]} if state in ends else {}
        put_work(model, state=state, next_attempt_at=NOW, **known)

        assert f"{model._meta.db_table}_is_not_overdue" not in broken()

    def test_is_looked_at_beside_the_other_invariants_of_its_app(self, model):
        label = model._meta.app_label

        assert f"{model._meta.db_table}_is_not_overdue" in invariants.collect(
            only_apps=frozenset({label})
        )


class TestCommand:
    def test_ends_well_where_all_is_well(self, capsys):
        call_command("check_invariants", app=["core"])

        assert "0 broken" in capsys.readouterr().out

    def test_names_what_is_broken_and_exits_with_1(self, capsys):
        publish(opened("a", sequence=2))

        with pytest.raises(SystemExit) as ended:
            call_command("check_invariants", app=["core"])

        assert ended.value.code == 1
        told = capsys.readouterr().out
        assert "events_of_an_aggregate_have_no_hole" in told
        assert "aggregate_id=la_a" in told
