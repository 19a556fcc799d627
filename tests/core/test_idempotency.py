"""One key, one act: replays, refusals, races, and a COMMIT whose answer never came."""

import json
import threading
from datetime import UTC, datetime
from functools import partial

import msgspec
import psycopg
import pytest
from django.db import DataError, InternalError, OperationalError, connection, connections

from apps.core import audit, context, idempotency, statements, transactions
from apps.core.actors import Actor
from apps.core.errors import InvalidInput, NotFound, NotPermitted, RuleViolation, StateConflict
from apps.core.idempotency import IdempotencyKeyReused, RequestInProgress
from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent, IdempotencyKey
from tests.core.wire import wired
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

ORGANIZATION, OTHER = new_id(), new_id()
ACTOR = Actor.job("tests")


@transactions.outermost
def brew(*, key="k", cups=1, organization_id=ORGANIZATION, refuse=None, then=None, prefix="cup"):
    """Brew tea: one audit row, under the claim's id."""
    claim = idempotency.claim(organization_id, key, "brew", cups, prefix=prefix)
    if claim.replayed:
        return claim
    audit.record(
        "tests.brew", ("cup", str(claim.resource_id)), organization_id=organization_id, actor=ACTOR
    )
    if then is not None:
        then()
    if refuse is not None:
        raise refuse
    return claim


def brewed() -> int:
    return AuditEvent.objects.count()


class TestClaim:
    def test_is_new_the_first_time(self):
        first = brew()

        assert not first.replayed
        assert AuditEvent.objects.get().subject_id == str(first.resource_id)
        assert not context.current().replayed

    def test_names_what_the_first_call_made(self):
        first = brew()
        context.begin()

        again = brew()

        assert (again.replayed, again.resource_id) == (True, first.resource_id)
        assert context.current().replayed
        assert brewed() == 1

    def test_belongs_to_its_organization(self):
        assert not brew().replayed
        assert not brew(organization_id=OTHER).replayed
        assert brewed() == 2

    def test_tells_capital_letters_apart(self):
        assert not brew(key="key").replayed
        assert not brew(key="KEY").replayed

    def test_refuses_another_request_and_names_the_first_ones_resource(self):
        first = brew()

        with pytest.raises(IdempotencyKeyReused) as refused:
            brew(cups=2)

        assert refused.value.details == {"resource": encode_id("cup", first.resource_id)}
        assert not context.current().replayed
        assert brew().resource_id == first.resource_id

    def test_of_an_act_stands_for_what_it_is_done_to(self):
        cup = new_id()

        @transactions.outermost
        def warm(degrees):
            return idempotency.claim(ORGANIZATION, "k", "warm", degrees, prefix="cup", acts_on=cup)

        first, again = warm(60), warm(60)

        assert (first.resource_id, first.replayed) == (cup, False)
        assert (again.resource_id, again.replayed) == (cup, True)
        with pytest.raises(IdempotencyKeyReused) as refused:
            warm(90)
        assert refused.value.details == {"resource": encode_id("cup", cup)}

    def test_may_come_to_stand_for_something_of_another_kind(self):
        pot = new_id()

        brew(then=lambda: idempotency.answer_with(ORGANIZATION, "k", pot, prefix="pot"))

        assert brew().resource_id == pot
        with pytest.raises(IdempotencyKeyReused) as refused:
            brew(cups=2)
        assert refused.value.details == {"resource": encode_id("pot", pot)}

    def test_refuses_another_operation(self):
        brew()

        @transactions.outermost
        def pour():
            idempotency.claim(ORGANIZATION, "k", "pour", 1)

        with pytest.raises(IdempotencyKeyReused):
            pour()

    def test_names_nothing_where_the_first_was_refused_or_prints_no_id(self):
        with pytest.raises(RuleViolation):
            brew(refuse=RuleViolation("No."))
        brew(key="plain", prefix="")

        for key in ("k", "plain"):
            with pytest.raises(IdempotencyKeyReused) as refused:
                brew(key=key, cups=2)
            assert refused.value.details == {}

    def test_goes_with_its_transaction(self):
        with pytest.raises(ZeroDivisionError):
            brew(then=lambda: 1 / 0)

        assert not IdempotencyKey.objects.exists()
        assert not brew().replayed

    def test_forgets_the_replay_that_an_earlier_operation_found(self):
        brew()
        brew()

        brew(key="another")

        assert not context.current().replayed

    def test_stores_no_body(self):
        brew()

        row = IdempotencyKey.objects.values().get()
        assert len(row.pop("fingerprint")) == 32
        assert row.pop("created_at")
        assert row.pop("resource_id")
        assert row == {
            "organization_id": ORGANIZATION,
            "key": "k",
            "operation": "brew",
            "prefix": "cup",
            "refusal_code": None,
            "refusal": None,
        }


class TestStoredRefusal:
    @pytest.mark.parametrize("kind", [RuleViolation, StateConflict])
    def test_is_raised_again_with_its_message_and_details(self, kind):
        details = {"left": 0, "id": new_id(), "at": datetime(2026, 11, 2, 9, 30, 1, 5, tzinfo=UTC)}
        with pytest.raises(kind) as first:
            brew(refuse=kind("No tea.", **details))

        with pytest.raises(kind) as again:
            brew()

        assert again.value.code == first.value.code
        assert again.value.message == "No tea."
        # As the API writes them: byte for byte the same problem document.
        rendered = [
            json.loads(msgspec.json.encode(refused.value.details, enc_hook=str))
            for refused in (first, again)
        ]
        assert rendered[0] == rendered[1]
        assert context.current().replayed
        assert brewed() == 0

    @pytest.mark.parametrize("kind", [NotFound, NotPermitted, InvalidInput])
    def test_is_not_what_says_nothing_about_the_act(self, kind):
        with pytest.raises(kind):
            brew(refuse=kind("No."))

        assert not brew().replayed
        assert brewed() == 1

    def test_is_not_kept_when_the_key_was_reused(self):
        brew()
        with pytest.raises(IdempotencyKeyReused):
            brew(cups=2)

        assert brew().replayed

    def test_gives_way_to_another_request_that_won_the_key_meanwhile(self, monkeypatch):
        record = transactions._record_refusal
        won = []

        def lose_the_key(unit, refusal):
            # Between our rollback and our second transaction, another process is answered.
            if not won:
                won.extend(race(brew))
            return record(unit, refusal)

        monkeypatch.setattr(transactions, "_record_refusal", lose_the_key)
        context.begin()

        answer = brew(refuse=RuleViolation("No."))

        assert (answer.replayed, answer.resource_id) == (True, won[0].resource_id)
        assert context.current().replayed
        assert IdempotencyKey.objects.get().refusal_code is None

    def test_that_another_request_stored_meanwhile_is_the_answer(self, monkeypatch):
        record = transactions._record_refusal
        lost = []

        def lose_the_key(unit, refusal):
            if not lost:
                lost.append(None)
                lost.extend(race(partial(brew, refuse=RuleViolation("First."))))
            return record(unit, refusal)

        monkeypatch.setattr(transactions, "_record_refusal", lose_the_key)

        with pytest.raises(RuleViolation, match="First"):
            brew(refuse=RuleViolation("Second."))

    def test_of_one_organization_is_not_anothers(self):
        with pytest.raises(RuleViolation):
            brew(refuse=RuleViolation("No."))

        assert not brew(organization_id=OTHER).replayed


class TestRace:
    def test_fifty_at_once_make_one(self):
        outcomes = race(*[brew] * 50)

        assert brewed() == 1
        assert len({claim.resource_id for claim in outcomes}) == 1
        assert sum(not claim.replayed for claim in outcomes) == 1

    def test_fifty_refused_at_once_are_refused_alike(self):
        outcomes = race(*(partial(brew, refuse=RuleViolation(f"No {n}.")) for n in range(50)))

        assert len({refusal.message for refusal in outcomes}) == 1
        assert IdempotencyKey.objects.count() == 1

    def test_some_refused_and_some_not_all_get_the_one_answer(self):
        calls = [partial(brew, refuse=RuleViolation("No.") if n % 2 else None) for n in range(20)]

        outcomes = race(*calls)

        is_refused = IdempotencyKey.objects.get().refusal_code is not None
        assert all(isinstance(outcome, RuleViolation) == is_refused for outcome in outcomes)
        assert brewed() == (0 if is_refused else 1)


class TestInProgress:
    def test_is_said_after_the_lock_timeout(self):
        with held_open("k") as release:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = 100")

            with pytest.raises(RequestInProgress) as refused:
                brew()

            release()
        assert isinstance(refused.value, StateConflict)
        assert refused.value.code == "request_in_progress"
        assert brewed() == 0

    def test_is_said_to_a_refused_request_that_lost_its_key_too(self, monkeypatch):
        record, holders = transactions._record_refusal, []

        def lose_the_key(unit, refusal):
            if not holders:
                holders.append(held_open("k"))
                holders[0].__enter__()
                with connection.cursor() as cursor:
                    cursor.execute("SET lock_timeout = 100")
            return record(unit, refusal)

        monkeypatch.setattr(transactions, "_record_refusal", lose_the_key)
        try:
            with pytest.raises(RequestInProgress):
                brew(refuse=RuleViolation("No."))
        finally:
            holders[0].__exit__(None, None, None)

    def test_ends_with_the_first_one_and_finds_its_answer(self):
        with held_open("k") as release:
            threading.Timer(0.2, release).start()

            answer = brew()

        # The one that held it was rolled back, so this one did the work.
        assert not answer.replayed


class held_open:  # noqa: N801  (reads as a verb)
    """Have another connection claim the key and stay in its transaction."""

    def __init__(self, key):
        self.other = connections.create_connection("default")
        self.other.inc_thread_sharing()
        self.key = key

    def __enter__(self):
        self.other.set_autocommit(False)
        with self.other.cursor() as cursor:
            cursor.execute(
                "INSERT INTO core_idempotency_key (organization_id, key, operation, fingerprint,"
                " prefix, resource_id) VALUES (%s, %s, 'brew', '', '', %s)",
                [ORGANIZATION, self.key, new_id()],
            )
        return self.other.close

    def __exit__(self, *_):
        self.other.close()


class TestLostCommit:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_is_resolved_by_the_key_into_one_effect(self, moment):
        context.begin()
        with wired() as wire:
            wire.cuts.append(moment)

            claim = brew()

            assert wire.commits == 2
        assert brewed() == 1
        assert AuditEvent.objects.get().subject_id == str(claim.resource_id)
        # Committed the first time, the second run found it; else it did the work itself.
        assert claim.replayed == (moment == "after")

    def test_is_resolved_though_it_is_lost_again(self):
        with wired() as wire:
            wire.cuts += ["before", "after"]

            claim = brew()

        assert (brewed(), claim.replayed) == (1, True)

    def test_of_a_refusal_is_told_as_a_fault_and_the_next_try_is_refused_alike(self):
        with wired() as wire:
            wire.cuts.append("after")
            with pytest.raises(OperationalError):
                brew(refuse=RuleViolation("No."))

        with pytest.raises(RuleViolation, match="No"):
            brew()
        assert brewed() == 0

    def test_of_a_session_that_the_server_ended_in_the_body_is_no_reason_to_run_again(self):
        runs = []

        def end_session():
            runs.append(1)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        with pytest.raises(OperationalError) as raised:
            brew(then=end_session)

        assert isinstance(raised.value.__cause__, psycopg.errors.AdminShutdown)
        assert len(runs) == 1
        assert not brew().replayed

    def test_of_a_session_that_the_server_ended_at_commit_is_resolved(self):
        runs = []

        def end_session_at_commit():
            runs.append(1)
            if len(runs) == 1:
                statements.send("SELECT pg_terminate_backend(pg_backend_pid())", {})

        claim = brew(then=end_session_at_commit)

        assert (len(runs), brewed(), claim.replayed) == (2, 1, False)

    def test_that_the_server_answered_with_a_rollback_is_no_reason_to_run_again(self):
        """Its outcome is known: a statement failed, and the work went on as if it had not."""
        runs = []

        def drop_a_fault():
            runs.append(1)
            with pytest.raises(DataError):
                statements.run("SELECT 1 / %(zero)s::int", {"zero": 0})

        with pytest.raises(InternalError, match="rolled back"):
            brew(then=drop_a_fault)

        assert (len(runs), brewed()) == (1, 0)
