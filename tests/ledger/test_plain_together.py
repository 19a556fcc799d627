"""Plain transfers of several organizations, which go to Postgres together."""

import contextlib
from functools import partial

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, connection
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
from tests.own_postgres import connected_to, copy_tables, own_postgres
from tests.support import race, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def make_many():
    """Five organizations, each with two accounts and money on one."""
    made = []
    for number in range(5):
        organization = create_organization(f"Company {number}")
        ann = open_account(organization, "wallets:ann:EUR")
        bob = open_account(organization, "wallets:bob:EUR")
        fund(organization, ann, 100)
        made.append((organization, ann, bob))
    return made


class TestOfManyOrganizations:
    @pytest.fixture
    def many(self):
        return make_many()

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
        asked[2] = (many[2][0], ticket(*many[2][1:], 101))

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

    @pytest.mark.parametrize("which", [0, 4])
    def test_have_each_its_own_answer_wherever_one_has_none(self, many, which):
        asked = [(owner, ticket(ann, bob, 1 + n)) for n, (owner, ann, bob) in enumerate(many)]
        owner, ann, bob = many[which]
        asked[which] = (owner, ticket(ann, bob, 101))

        operations.post_plain(asked)

        for n, (_, one) in enumerate(asked):
            assert one.is_answered == (n != which)
            if one.is_answered:
                lines = operations.take_result(one).outcome.lines
                assert [line[1] for line in lines] == [1 + n, -1 - n]
                assert [line[4:] for line in lines] == [(99 - n, 99 - n), (1 + n, 1 + n)]
        assert breaches() == []

    def test_of_which_none_is_plain_are_all_the_engines(self, many):
        asked = self.ask(many, 101)

        operations.post_plain(asked)

        assert not any(one.is_answered for _, one in asked)
        assert not IdempotencyKey.objects.filter(key="k").exists()

    def test_whose_key_stands_is_the_engines_and_its_neighbours_are_posted(self, many):
        owner, ann, bob = many[1]
        first = post_transfer(owner, ann, bob, 1, key="k")
        asked = self.ask(many)

        operations.post_plain(asked)

        assert [one.is_answered for _, one in asked] == [True, False, True, True, True]
        operations.post_asked(organization_id=owner, asked=[asked[1][1]])
        assert operations.take_result(asked[1][1]).entry_id == first.entry_id
        assert [balance(owner, bob).available for owner, _, bob in many] == [1] * 5

    def test_of_somebody_elses_accounts_is_nothing(self, many):
        asked = self.ask(many)
        asked[1] = (many[1][0], ticket(*many[2][1:]))

        operations.post_plain(asked)

        assert [one.is_answered for _, one in asked] == [True, False, True, True, True]
        assert balance(many[2][0], many[2][2]).available == 1
        assert breaches() == []

    def test_whose_client_gives_up_in_the_middle_are_posted_once_while_it_goes_on(
        self, many, monkeypatch
    ):
        """As where its process is killed: Postgres goes on, beside whoever asks again."""
        asked = self.ask(many)
        asked[1] = (many[1][0], ticket(*many[1][1:], 3))
        sql("CREATE FUNCTION odd(bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
            " IF $1 = 3 THEN PERFORM pg_sleep(1); END IF; RETURN TRUE; END; $$")  # fmt: skip
        sql("ALTER TABLE ledger_posting ADD CONSTRAINT odd CHECK (odd(amount_minor)) NOT VALID")
        connection.close()
        connection.ensure_connection()
        monkeypatch.setattr(connection.connection, "answer_seconds_max", 0.3, raising=False)
        try:
            operations.post_plain(asked)
            assert not any(one.is_answered for _, one in asked)
            self.are_posted_once(many, asked, [1, 3, 1, 1, 1])
            wait_until(
                lambda: sql("SELECT 1 FROM pg_stat_activity WHERE state = 'active'"
                            " AND datname = current_database() AND query LIKE '%%_apart%%'"
                            " AND pid <> pg_backend_pid()") == []
            )  # fmt: skip
        finally:
            sql("ALTER TABLE ledger_posting DROP CONSTRAINT odd")
            sql("DROP FUNCTION odd")

        assert JournalEntry.objects.filter(kind="transfer").count() == 5 + 5
        assert breaches() == []

    def test_that_are_canceled_in_the_middle_are_found_out_by_their_keys(self, many):
        asked = self.ask(many)
        asked[2] = (many[2][0], ticket(*many[2][1:], 3))
        sql("ALTER TABLE ledger_posting ADD CONSTRAINT odd CHECK (amount_minor <> 3 OR"
            " pg_cancel_backend(pg_backend_pid()) AND pg_sleep(1) IS NULL) NOT VALID")  # fmt: skip
        try:
            operations.post_plain(asked)
        finally:
            sql("ALTER TABLE ledger_posting DROP CONSTRAINT odd")

        assert not any(one.is_answered for _, one in asked)
        assert connection.is_usable()
        self.are_posted_once(many, asked, [1, 1, 3, 1, 1])

    def test_at_once_in_opposite_order_are_each_posted_once(self, many):
        """Over the same accounts, three of them under one key: by the call or by the engine."""
        for turn in range(10):
            there, back = (
                [
                    (owner, ticket(ann, bob, key=key))
                    for (owner, ann, bob), key in zip(many, keys, strict=True)
                ]
                for keys in ([f"{turn}"] * 5, [f"{turn}"] * 3 + [f"{turn} again"] * 2)
            )
            race(partial(operations.post_plain, there), partial(operations.post_plain, back[::-1]))
            for owner, one in [*there, *back]:
                operations.post_asked(organization_id=owner, asked=[one])

            entries = [operations.take_result(one).entry_id for _, one in [*there, *back]]
            assert len(set(entries)) == 7
            assert [balance(owner, bob).available for owner, _, bob in many] == [
                times * (turn + 1) for times in (1, 1, 1, 2, 2)
            ]
        assert breaches() == []

    def test_behind_a_pooler_are_a_trip_each(self, many, monkeypatch):
        """What is set for one statement would be another client's there."""
        asked = self.ask(many)
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "prepare_threshold", None)
        before = statements.trips()

        operations.post_plain(asked)

        assert statements.trips() == before + 5
        assert all(one.is_answered for _, one in asked)
        self.are_posted_once(many, asked, [1] * 5)

    def test_behind_a_pooler_end_with_the_first_that_meets_a_fault(self, many, monkeypatch):
        """What is wrong may be the server, which nobody is to wait for once more for each."""
        asked = self.ask(many)
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "prepare_threshold", None)
        with wired() as wire:
            wire.cuts = ["after"]
            operations.post_plain(asked)

        assert not any(one.is_answered for _, one in asked)
        assert JournalEntry.objects.filter(kind="transfer").count() == 5 + 1
        self.are_posted_once(many, asked, [1] * 5)

    def test_one_that_postgres_refuses_is_left_out_for_a_while(self, many):
        """So its neighbours meet what it meets once, and not each time it asks."""
        sql("ALTER TABLE ledger_posting ADD CONSTRAINT odd CHECK (amount_minor <> 3) NOT VALID")
        try:
            asked = self.ask(many)
            asked[2] = (many[2][0], ticket(*many[2][1:], 3))
            operations.post_plain(asked)
            for owner, one in asked:
                operations.post_asked(organization_id=owner, asked=[one])
            again = [(owner, ticket(ann, bob, key="again")) for owner, ann, bob in many]
            again[2] = (many[2][0], ticket(*many[2][1:], 3, key="again"))
            operations.post_plain(again)
        finally:
            sql("ALTER TABLE ledger_posting DROP CONSTRAINT odd")
            _suspects._until.clear()

        with pytest.raises(IntegrityError):
            operations.take_result(asked[2][1])
        assert [one.is_answered for _, one in again] == [True, True, False, True, True]

    def are_posted_once(self, many, asked, amounts):
        for owner, one in asked:
            operations.post_asked(organization_id=owner, asked=[one])
        assert len({operations.take_result(one).entry_id for _, one in asked}) == 5
        assert [balance(owner, bob).available for owner, _, bob in many] == amounts
        assert breaches() == []


class TestBesideAStandby:
    def test_are_seen_and_answered_once_it_has_them_however_long_it_takes(
        self, tmp_path, monkeypatch
    ):
        """No statement timeout ends a COMMIT that waits for one (operations.md, section 3)."""
        with (
            own_postgres(tmp_path) as record,
            psycopg.connect(record["url"].replace("kassa@", "postgres@"), autocommit=True) as admin,
        ):
            copy_tables(record)
            with connected_to(record["url"], monkeypatch, is_durable=True):
                monkeypatch.setitem(connection.settings_dict["OPTIONS"], "prepare_threshold", 1)
                many = make_many()
                asked = [(owner, ticket(ann, bob)) for owner, ann, bob in many]
                self.have(admin, "SET synchronous_standby_names = 'nobody'")
                wait_until(lambda: self.waits(admin))
                connection.close()
                connection.ensure_connection()
                monkeypatch.setattr(connection.connection, "answer_seconds_max", 1, raising=False)
                sql("SET statement_timeout = '200ms'")

                operations.post_plain(asked)

                assert not any(one.is_answered for _, one in asked)
                assert JournalEntry.objects.filter(kind="transfer").count() == 5
                self.have(admin, "RESET synchronous_standby_names")
                for owner, one in asked:
                    operations.post_asked(organization_id=owner, asked=[one])
                assert len({operations.take_result(one).entry_id for _, one in asked}) == 5
                assert [balance(owner, bob).available for owner, _, bob in many] == [1] * 5

    def have(self, admin, said):
        admin.execute(f"ALTER SYSTEM {said}")
        admin.execute("SELECT pg_reload_conf()")

    def waits(self, admin):
        """Whether a COMMIT waits by now: one in a block is ended by its timeout, and says so."""
        said = []
        admin.add_notice_handler(lambda notice: said.append(notice.message_primary))
        admin.execute("SET statement_timeout = '50ms'")
        admin.execute("DO $$ BEGIN PERFORM pg_logical_emit_message(TRUE, '', ''); COMMIT; END $$")
        admin.execute("RESET statement_timeout")
        return any("synchronous replication" in one for one in said)
