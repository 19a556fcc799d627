"""
The plain transfer: posted by one statement where nothing has to be decided, as the engine would.

Everything else is left to the engine, and nothing of it is written before that.
"""

from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from django.db import OperationalError, connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

import apps.ledger
from apps.core import context, statements
from apps.core.errors import Refusal
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey, OutboxBatch, OutboxEvent
from apps.ledger import operations
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import JournalEntry, Posting
from apps.ledger.operations import TransferRequest, _plain, _suspects
from apps.ledger.rules import (
    COUNTER_MAX,
    BalanceState,
    Command,
    PlaceHold,
    State,
    Transfer,
    apply,
)
from tests.core.test_tenancy_log import strays
from tests.core.wire import wired
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.rows import fingerprints
from tests.ledger.test_monitors import watch
from tests.ledger.threads import Asking, held, is_waiting, sql
from tests.support import race, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

SQL = Path(apps.ledger.__file__).parent / "sql" / "post_transfer.sql"
# What each run of the same act has of its own.
OWN = {
    "id", "entry_id", "batch_id", "resource_id", "aggregate_id", "key", "fingerprint", "created_at",
    "recorded_at", "inserted_at", "next_attempt_at", "account_version", "balance_after_minor",
}  # fmt: skip


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR")
    bob = open_account(organization, "wallets:bob:EUR")
    fund(organization, ann, 100_00)
    return organization, ann, bob


def ticket(debit: UUID, credit: UUID, amount: int = 1, *, key: str = "k", **more: object):
    at = more.pop("now", NOW)
    request = TransferRequest(
        debit_account_id=debit, credit_account_id=credit, amount_minor=amount,
        **{"currency": "EUR", **more},
    )  # fmt: skip
    return operations.ask_transfer(transfer=request, idempotency_key=key, actor=ACTOR, now=at)


@contextmanager
def engine_alone(monkeypatch):
    """Have the engine post what is plain, too."""
    with monkeypatch.context() as patched:
        patched.setattr(_plain, "_may_be_plain", lambda _command: False)
        yield


def rows(model, *, entry_id: UUID, key: str) -> list[dict[str, object]]:
    """Return a transfer's rows of a table, without what each run has of its own."""
    event = OutboxEvent.objects.filter(data__kind="transfer").latest("id")
    of = {
        IdempotencyKey: {"key": key},
        JournalEntry: {"id": entry_id},
        Posting: {"entry_id": entry_id},
        OutboxBatch: {"id": event.batch_id},
        OutboxEvent: {"id": event.id},
    }[model]
    found = model.objects.filter(**of).order_by(*(["number"] if model is Posting else []))
    return [{name: row[name] for name in row if name not in OWN} for row in found.values()]


class TestRows:
    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"description": "Rück — 'quoted'", "metadata": {"order": "4711", "ü": '"'}},
        ],
        ids=["bare", "with text"],
    )
    @pytest.mark.parametrize("debit", ["wallets:ann:EUR", "till:1:EUR"])
    @pytest.mark.parametrize("credit", ["wallets:bob:EUR", "till:2:EUR"])
    def test_are_those_that_the_engine_writes(self, books, monkeypatch, debit, credit, more):
        """Money leaves a wallet, or comes into a till: each side of either kind."""
        organization, ann, bob = books
        bank = open_account(organization, "bank:ba_1:EUR", type_="asset", floor=None, internal=True)
        tills = [
            open_account(organization, f"till:{n}:EUR", type_="asset", floor=0) for n in (1, 2)
        ]
        post(organization, *(move(till, ann, 50_00) for till in tills))
        post(organization, PlaceHold(
            id=new_id(), debit_account_id=ann, credit_account_id=bank, currency="EUR",
            amount_minor=7_00,
        ))  # fmt: skip
        ids = {
            "wallets:ann:EUR": ann, "wallets:bob:EUR": bob,
            "till:1:EUR": tills[0], "till:2:EUR": tills[1],
        }  # fmt: skip
        asked = partial(post_transfer, organization, ids[debit], ids[credit], 3_00, **more)
        tables = (IdempotencyKey, JournalEntry, Posting, OutboxBatch, OutboxEvent)

        plain = asked(key="plain")
        written = {table: rows(table, entry_id=plain.entry_id, key="plain") for table in tables}
        stood = {b.id: b for b in plain.outcome.balances}
        with engine_alone(monkeypatch):
            whole = asked(key="whole")

        assert written == {
            table: rows(table, entry_id=whole.entry_id, key="whole") for table in tables
        }
        # The second one moved as much again, each from where the first one had left it.
        for now in whole.outcome.balances:
            before = stood[now.id]
            change = 3_00 if now.posted > before.posted else -3_00
            assert now == (now.id, before.version + 1, before.posted + change,
                           before.available + change)  # fmt: skip
            assert (now.posted, now.available) == (
                balance(organization, now.id).posted, balance(organization, now.id).available,
            )  # fmt: skip
        for made in (plain, whole):
            assert made.outcome.status == "posted"
            assert made.outcome.entry_id == made.entry_id
            assert made.outcome.effective_at == NOW
            assert JournalEntry.objects.get(id=made.entry_id).recorded_at == made.recorded_at
        assert breaches() == []

    def test_of_an_event_name_what_led_to_it(self, books):
        """A consumer's transfer, whose event has that cause, as the engine's would."""
        organization, ann, bob = books
        cause = new_id()

        with context.because_of(context.Cause(cause)):
            post_transfer(organization, ann, bob, 1, key="k")

        assert OutboxEvent.objects.latest("id").causation_id == cause


def reuse(organization, ann, bob):
    post_transfer(organization, ann, bob, 2, key="k")
    return ticket(ann, bob)


def replay(organization, ann, bob):
    post_transfer(organization, ann, bob, 1, key="k")
    return ticket(ann, bob)


def change(set_: str, which: int):
    """Return what changes one of the two accounts first, by SQL."""

    def changed(organization, ann, bob):
        sql(f"UPDATE ledger_balance SET {set_} WHERE id = %s", (ann, bob)[which])
        return ticket(ann, bob)

    return changed


def watched(which: int):
    def asked(organization, ann, bob):
        watch(organization, (ann, bob)[which], threshold=1)
        return ticket(ann, bob)

    return asked


def dated_later(organization, ann, bob):
    post_transfer(organization, ann, bob, 1, key="later", effective_at=NOW + timedelta(seconds=1))
    return ticket(ann, bob)


def of_another(organization, ann, bob):
    other = create_organization("Southwind")
    return ticket(ann, open_account(other, "wallets:zoe:EUR"))


def reserved(organization, ann, bob):
    post(organization, PlaceHold(
        id=new_id(), debit_account_id=ann, credit_account_id=bob, currency="EUR",
        amount_minor=60_00,
    ))  # fmt: skip
    return ticket(ann, bob, 40_01)


def from_a_till(organization, ann, bob):
    till = open_account(organization, "till:1:EUR", type_="asset", floor=0)
    post(organization, move(till, ann, 5_00))
    return ticket(bob, till, 5_01)


NOT_PLAIN = {
    "under a reference": lambda _, a, b: ticket(a, b, reference="order-1"),
    "back-dated": lambda _, a, b: ticket(a, b, effective_at=NOW - timedelta(days=1)),
    "as much as there is": lambda _, a, b: ticket(a, b, 200_00, up_to=True),
    "forced": lambda _, a, b: ticket(a, b, force=True),
    "linked": lambda _, a, b: ticket(a, b, linked=True),
    "not covered": lambda _, a, b: ticket(a, b, 100_01),
    "covered but for what is reserved": reserved,
    "more than a till holds": from_a_till,
    "from an account to itself": lambda _, a, _b: ticket(a, a),
    "from nowhere": lambda _, _a, b: ticket(new_id(), b),
    "to nowhere": lambda _, a, _b: ticket(a, new_id()),
    "to somebody else's account": of_another,
    "in another currency": lambda _, a, b: ticket(a, b, currency="USD"),
    "from a frozen account": change("status = 'frozen'", 0),
    "to a frozen account": change("status = 'frozen'", 1),
    "from a closed account": change("status = 'closed'", 0),
    "to a closed account": change("status = 'closed'", 1),
    "from one of Kassa's own": change("internal = TRUE", 0),
    "to one of Kassa's own": change("internal = TRUE", 1),
    "from a monitored account": watched(0),
    "to a monitored account": watched(1),
    "before what its account has seen": dated_later,
    "under a key that stands": replay,
    "under a key that stands for another request": reuse,
}


class TestWhatIsNotPlain:
    @pytest.mark.parametrize("name", NOT_PLAIN)
    def test_is_left_to_the_engine_and_nothing_of_it_is_written(self, books, name):
        organization, ann, bob = books
        asked = NOT_PLAIN[name](organization, ann, bob)
        before = fingerprints()

        _plain.post([(organization, asked)])

        assert asked.is_engines
        assert not asked.is_answered
        assert fingerprints() == before

    @pytest.mark.parametrize("name", NOT_PLAIN)
    def test_is_answered_as_the_engine_answers_it(self, books, monkeypatch, name):
        """The same outcome or refusal, beside the same books without a short way."""
        answers = []
        for is_alone in (False, True):
            organization = create_organization()
            ann = open_account(organization, "wallets:ann:EUR")
            bob = open_account(organization, "wallets:bob:EUR")
            fund(organization, ann, 100_00)
            asked = NOT_PLAIN[name](organization, ann, bob)
            with monkeypatch.context() as patched:
                if is_alone:
                    patched.setattr(_plain, "_may_be_plain", lambda _command: False)
                operations.post_asked(organization_id=organization, asked=[asked])
            try:
                outcome = operations.take_result(asked).outcome
                # A replay has none.
                answers.append(outcome and [
                    (line.amount_minor, line.account_version, line.available_after_minor)
                    for line in outcome.lines
                ])  # fmt: skip
            except Refusal as refusal:
                answers.append((refusal.code, sorted(refusal.details)))

        assert answers[0] == answers[1]
        assert breaches() == []

    def test_is_what_waits_for_an_account_that_somebody_holds(self, books):
        """Not for long; then the engine waits, and the key is its own."""
        organization, ann, bob = books
        with held(bob) as let_go:
            asked = Asking(partial(post_transfer, organization, ann, bob, 1, key="k"))
            # By now the engine does: it asks for keys with an account each.
            wait_until(lambda: any("core_idempotency_key" in row[0] for row in waiting()))
            let_go()
            asked.ended()

        assert asked.fault is None
        assert asked.replayed is False
        assert balance(organization, bob).available == 1
        assert IdempotencyKey.objects.get().resource_id == asked.answer.entry_id
        assert breaches() == []

    def test_is_what_waits_for_a_key_whose_request_is_under_way(self, books):
        organization, ann, bob = books
        other = connection.copy()
        other.set_autocommit(False)
        try:
            with other.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO core_idempotency_key (organization_id, key, operation,"
                    " fingerprint, prefix, resource_id) VALUES (%s, 'k', 'x', '', 'je', %s)",
                    [organization, new_id()],
                )
            asked = Asking(
                partial(post_transfer, organization, ann, bob, 1, key="k"), lock_timeout="300ms"
            ).ended()
        finally:
            other.rollback()
            other.close()

        assert asked.fault.code == "request_in_progress"
        assert balance(organization, bob).available == 0
        assert post_transfer(organization, ann, bob, 1, key="k").outcome is not None

    def test_is_one_whose_money_went_while_it_waited(self, books, patient):
        """It was covered as it was looked at, and is not under the lock: nothing of it stands."""
        organization, ann, bob = books
        other = connection.copy()
        other.set_autocommit(False)
        try:
            with other.cursor() as cursor:
                cursor.execute(
                    "UPDATE ledger_balance SET pending_debits = 10000 WHERE id = %s", [ann]
                )
            asked = Asking(partial(post_transfer, organization, ann, bob, 1, key="k"))
            wait_until(lambda: any("kassa_post_transfer" in row[0] for row in waiting()))
            other.commit()
            asked.ended()
        finally:
            other.close()

        assert type(asked.fault) is InsufficientFunds
        assert JournalEntry.objects.filter(kind="transfer").count() == 1
        assert IdempotencyKey.objects.get().refusal_code == "insufficient_funds"
        assert OutboxEvent.objects.filter(data__kind="transfer").count() == 1


@pytest.fixture
def patient():
    """Have it wait for as long as a test may take."""
    [[signature]] = sql("SELECT 'kassa_post_transfer'::regproc::oid::regprocedure::text")
    sql(f"ALTER FUNCTION {signature} SET lock_timeout = '60s'")
    yield
    sql(f"ALTER FUNCTION {signature} SET lock_timeout = '5ms'")


def waiting() -> list[tuple[str]]:
    """Return the statements on this database that wait for a lock."""
    return sql(
        "SELECT query FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )


class TestAtOnce:
    def test_under_one_key_are_one_transfer(self, books):
        organization, ann, bob = books
        call = partial(post_transfer, organization, ann, bob, 1, key="k")

        entries = {answer.entry_id for answer in race(*[call] * 8)}

        assert len(entries) == 1
        assert balance(organization, bob).available == 1
        assert breaches() == []

    def test_of_money_for_five_are_five(self, books):
        """Each a statement of its own, as those of several processes are."""
        organization, ann, bob = books
        asked = [ticket(ann, bob, 20_00, key=f"k-{n}") for n in range(8)]

        race(*(partial(_plain.post, [(organization, one)]) for one in asked))

        # The others were left to the engine: too late, or in each other's way.
        assert 1 <= sum(one.is_answered for one in asked) <= 5
        for one in asked:
            operations.post_asked(organization_id=organization, asked=[one])
        assert balance(organization, ann).available == 0
        assert balance(organization, bob).available == 100_00
        assert breaches() == []


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

    def test_wait_hardly_for_one_whose_account_somebody_holds(self, many):
        asked = self.ask(many)

        with held(many[1][2]):
            operations.post_plain(asked)

        assert [one.is_answered for _, one in asked] == [True, False, True, True, True]

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
            asked[0] = (many[0][0], ticket(*many[0][1:], 3))
            with capture_logs() as logs:
                operations.post_plain(asked)
        finally:
            sql("ALTER TABLE ledger_posting DROP CONSTRAINT odd")

        assert [one.is_answered for _, one in asked] == [False, True, True, True, True]
        assert [(one["event"], one["fault"]) for one in logs if "plain" in one["event"]] == [
            ("plain_transfer_failed", "23514")
        ]


class TestLostCommit:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_is_one_effect_and_the_answer_that_stands(self, books, moment):
        organization, ann, bob = books
        with wired() as wire:
            wire.cuts = [moment]
            answer = post_transfer(organization, ann, bob, 1, key="k")

        assert wire.cuts == []
        assert balance(organization, bob).available == 1
        assert IdempotencyKey.objects.get().resource_id == answer.entry_id
        assert (answer.outcome is None) == (moment == "after")
        assert breaches() == []


money = st.integers(0, 30)


@st.composite
def accounts(draw, id_: UUID) -> BalanceState:
    """An account as it may stand: within its floor, often near it, or at the end of counting."""
    credit_normal = draw(st.booleans())
    near = draw(st.sampled_from([0, COUNTER_MAX - 40]))
    counters = {
        "posted_debits": near + draw(money), "posted_credits": near + draw(money),
        "pending_debits": draw(money), "pending_credits": draw(money),
    }  # fmt: skip
    state = BalanceState(
        id_, draw(st.sampled_from(["EUR", "EUR", "EUR", "USD"])), credit_normal=credit_normal,
        status=draw(st.sampled_from(["open", "open", "open", "frozen", "closed"])),
        internal=draw(st.sampled_from([False, False, False, True])),
        monitored=draw(st.sampled_from([False, False, False, True])),
        latest_effective_at=draw(st.sampled_from(
            [None, NOW - timedelta(seconds=1), NOW, NOW + timedelta(microseconds=1)]
        )),
        **counters,
    )  # fmt: skip
    state.min_available_minor = draw(
        st.none() | st.integers(0, 30).map(lambda below: state.available - below)
    )
    return state


def takes(state: BalanceState, *, is_debited: bool, amount: int) -> bool:
    names = sql(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'ledger_balance'::regclass"
        " AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    values = [new_id() if name == "organization_id" else getattr(state, name) for (name,) in names]
    row = ", ".join(["%s"] * len(values))
    [[found]] = sql(
        f"SELECT kassa_takes_transfer(ROW({row})::ledger_balance, %s, %s, 'EUR', %s)",
        *values, is_debited, amount, NOW,
    )  # fmt: skip
    return found


class TestWhatIsPlain:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(debit=accounts(UUID(int=1)), credit=accounts(UUID(int=2)), amount=st.integers(1, 40))
    def test_is_what_the_engine_posts_without_more_ado(self, debit, credit, amount):
        is_plain = takes(debit, is_debited=True, amount=amount) and takes(
            credit, is_debited=False, amount=amount
        )
        command: Command = Transfer(new_id(), debit.id, credit.id, amount, "EUR")
        state = State({debit.id: debit, credit.id: credit}, now=NOW, reach_internal=False)

        _, [outcome] = apply(state, [command])

        has_more = any(
            one.monitored or (one.latest_effective_at or NOW) > NOW for one in (debit, credit)
        )
        assert is_plain == (outcome.status == "posted" and not has_more)


class TestTheFunction:
    def test_of_the_database_is_the_one_that_an_auditor_reads(self):
        """The migrations' own copies, as they have come to be, are the file."""
        text = SQL.read_text()
        bodies = sql(
            "SELECT prosrc FROM pg_proc"
            " WHERE proname IN ('kassa_takes_transfer', 'kassa_post_transfer')"
        )

        assert len(bodies) == 2
        for (body,) in bodies:
            lines = [line.strip() for line in body.strip().splitlines()]
            assert "\n".join(lines) in "\n".join(line.strip() for line in text.splitlines())

    def test_counts_as_far_as_the_engine(self):
        assert f"<= {COUNTER_MAX}\n" in SQL.read_text()

    def test_names_whose_rows_it_locks_and_changes(self):
        _, body = SQL.read_text().split("BEGIN\n", 1)

        found = [one for one in body.split(";\n") if "ledger_balance" in one]
        assert len(found) == 3
        assert [one for one in found if strays(one)] == []
