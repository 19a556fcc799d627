"""Plain transfers of several organizations, which go to Postgres together."""

import contextlib
from functools import partial

import pytest
from django.db import OperationalError, connection
from structlog.testing import capture_logs

from apps.core import statements
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey
from apps.ledger import operations
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import JournalEntry
from apps.ledger.operations import _suspects
from tests.core.wire import wired
from tests.ledger.factories import (
    balance,
    create_organization,
    fund,
    open_account,
    post_transfer,
)
from tests.ledger.plain import ticket
from tests.ledger.threads import Asking, held, is_waiting, sql
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class TestOfManyOrganizations:
    @pytest.fixture
    def many(self):
        """Five organizations, each with two accounts and money on one."""
        made = []
        for number in range(5):
            organization = create_organization(f"Company {number}")
            ann = open_account(organization, "wallets:ann:EUR")
            bob = open_account(organization, "wallets:bob:EUR")
            fund(organization, ann, 10)
            made.append((organization, ann, bob))
        return made

    def ask(self, many, amount=1):
        return [(owner, ticket(ann, bob, amount)) for owner, ann, bob in many]

    def test_are_a_transaction_each_in_one_trip(self, many):
        asked = self.ask(many)
        before = statements.trips()

        operations.post_plain(asked)

        assert statements.trips() == before + 1
        entries = {operations.take_result(one).entry_id for _, one in asked}
        written = sql("SELECT xmin::text FROM ledger_journal_entry WHERE kind = 'transfer'"
                      " AND id = ANY(%s)", list(entries))  # fmt: skip
        assert len(entries) == len(set(written)) == 5
        assert [balance(owner, bob).available for owner, _, bob in many] == [1] * 5
        assert breaches() == []

    def test_mind_nothing_of_one_that_is_refused(self, many):
        asked = self.ask(many)
        asked[2] = (many[2][0], ticket(*many[2][1:], 11))

        operations.post_plain(asked)

        assert [one.is_answered for _, one in asked] == [True, True, False, True, True]
        operations.post_asked(organization_id=many[2][0], asked=[asked[2][1]])
        with pytest.raises(InsufficientFunds):
            operations.take_result(asked[2][1])
        assert breaches() == []

    @pytest.mark.parametrize("which", [1, 2])
    def test_do_not_wait_for_one_whose_account_somebody_holds(self, many, which):
        asked = self.ask(many)

        with held(many[1][which]), capture_logs() as logs:
            operations.post_plain(asked)

        assert [one.is_answered for _, one in asked] == [True, False, True, True, True]
        # Of what nobody waited for nothing stands, and it is no fault in anybody's log.
        assert logs == []
        assert not IdempotencyKey.objects.filter(organization_id=many[1][0]).exists()
        self.are_posted_once(many, asked, [1] * 5)

    def test_wait_hardly_for_a_key_that_somebody_has(self, many):
        """A request of another process is under way with it: then all of them are the engine's."""
        asked = self.ask(many)
        other = connection.copy()
        other.set_autocommit(False)
        with contextlib.closing(other), other.cursor() as cursor:
            cursor.execute(
                "INSERT INTO core_idempotency_key (organization_id, key, operation, fingerprint,"
                " prefix, resource_id) VALUES (%s, 'k', 'x', '', 'je', %s)",
                [many[2][0], new_id()],
            )
            with capture_logs() as logs:
                operations.post_plain(asked)
            other.rollback()

        assert all(one.is_engines for _, one in asked)
        assert logs == []
        assert JournalEntry.objects.filter(kind="transfer").count() == 5 + 2
        self.are_posted_once(many, asked, [1] * 5)

    def test_are_not_posted_where_their_organization_is_being_written_for(self, many):
        """They are of its next group: what one transaction can do is not made two that wait."""
        asked = self.ask(many)
        owner, ann, bob = many[3]

        with held(ann) as let_go:
            writer = Asking(partial(post_transfer, owner, ann, bob, 1, key="w", reference="w"))
            wait_until(is_waiting)
            operations.post_plain(asked)
            let_go()
            writer.ended()

        assert [one.is_answered for _, one in asked] == [True, True, True, False, True]
        assert not asked[3][1].is_engines

    def test_are_not_posted_where_somebody_sits_on_something(self, many):
        asked = self.ask(many)
        owner, *_ = many[0]
        _suspects.note(owner, [new_id()])
        try:
            operations.post_plain(asked)
        finally:
            _suspects._until.clear()

        assert [one.is_answered for _, one in asked] == [False, True, True, True, True]

    def test_are_told_so_where_there_is_no_connection_and_nothing_is_tried_again(
        self, many, monkeypatch
    ):
        asked = self.ask(many)

        def refuse():
            tried.append(1)
            raise OperationalError("Connection refused.")

        tried = []
        connection.close()
        with monkeypatch.context() as patched:
            patched.setattr(connection, "ensure_connection", refuse)
            operations.post_plain(asked)
            for owner, one in asked:
                operations.post_asked(organization_id=owner, asked=[one])

        assert tried == [1]
        for _, one in asked:
            with pytest.raises(OperationalError, match="refused"):
                operations.take_result(one)

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_whose_answers_are_lost_are_found_out_by_their_keys(self, many, moment):
        """Some of them were posted and some not, and nobody can say which."""
        asked = self.ask(many)
        with wired() as wire:
            wire.cuts = [moment]
            operations.post_plain(asked)
        for owner, one in asked:
            operations.post_asked(organization_id=owner, asked=[one])

        made = [operations.take_result(one) for _, one in asked]
        assert len({each.entry_id for each in made}) == 5
        assert [balance(owner, bob).available for owner, _, bob in many] == [1] * 5
        assert JournalEntry.objects.filter(reference=None, kind="transfer").count() == 10
        assert breaches() == []

    def test_that_fail_for_no_known_reason_are_left_to_the_engine_and_logged(self, many):
        asked = self.ask(many)
        sql("ALTER TABLE ledger_posting ADD CONSTRAINT odd CHECK (amount_minor <> 3) NOT VALID")
        try:
            asked[2] = (many[2][0], ticket(*many[2][1:], 3))
            with capture_logs() as logs:
                operations.post_plain(asked)
        finally:
            sql("ALTER TABLE ledger_posting DROP CONSTRAINT odd")

        assert [(one["event"], one["fault"]) for one in logs if "plain" in one["event"]] == [
            ("plain_transfer_failed", "23514")
        ]
        # Those before it are posted by then, those behind it are not: all find out by their keys.
        assert not any(one.is_answered for _, one in asked)
        self.are_posted_once(many, asked, [1, 1, 3, 1, 1])

    def test_whose_server_is_lost_in_the_middle_are_found_out_by_their_keys(self, many):
        asked = self.ask(many)
        asked[2] = (many[2][0], ticket(*many[2][1:], 3))
        sql("ALTER TABLE ledger_posting ADD CONSTRAINT odd CHECK"
            " (amount_minor <> 3 OR pg_terminate_backend(pg_backend_pid())) NOT VALID")  # fmt: skip
        try:
            operations.post_plain(asked)
        finally:
            sql("ALTER TABLE ledger_posting DROP CONSTRAINT odd")

        assert all(one.is_engines for _, one in asked)
        assert JournalEntry.objects.filter(kind="transfer").count() == 5 + 2
        self.are_posted_once(many, asked, [1, 1, 3, 1, 1])

    @pytest.mark.parametrize("state", ["40001", "40P01"])
    def test_of_which_one_met_what_is_run_again_have_had_their_first_run(self, many, state):
        asked = self.ask(many)
        sql(f"CREATE FUNCTION odd(bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
            f" IF $1 = 3 THEN RAISE EXCEPTION 'odd' USING ERRCODE = '{state}'; END IF;"
            f" RETURN TRUE; END; $$")  # fmt: skip
        sql("ALTER TABLE ledger_posting ADD CONSTRAINT odd CHECK (odd(amount_minor)) NOT VALID")
        try:
            asked[2] = (many[2][0], ticket(*many[2][1:], 3))
            operations.post_plain(asked)
        finally:
            sql("ALTER TABLE ledger_posting DROP CONSTRAINT odd")
            sql("DROP FUNCTION odd")

        with capture_logs() as logs:
            self.are_posted_once(many, asked, [1, 1, 3, 1, 1])
        assert [one["event"] for one in logs] == ["transaction_again"] * 5

    def are_posted_once(self, many, asked, amounts):
        for owner, one in asked:
            operations.post_asked(organization_id=owner, asked=[one])
        assert len({operations.take_result(one).entry_id for _, one in asked}) == 5
        assert [balance(owner, bob).available for owner, _, bob in many] == amounts
        assert breaches() == []
