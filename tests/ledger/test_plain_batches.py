"""A batch of plain transfers: what is counted up is what the engine would have decided."""

import random
from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest
from django.db import OperationalError, connection

from apps.core import outbox, statements
from apps.core.errors import Refusal
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.core.models import OutboxBatch, OutboxEvent
from apps.core.wall_clock import print_instant
from apps.ledger import operations
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import JournalEntry, Posting
from apps.ledger.operations import TransferRequest, _engine, _plain_batch, _writing
from apps.ledger.queries import _locks
from apps.ledger.rules import COUNTER_MAX, PlaceHold, Transfer
from tests.ledger.factories import ACTOR, NOW, balance, fund, move, open_account, post
from tests.ledger.factories import post_transfer as transfer
from tests.ledger.plain import leave_room, make_books, make_three
from tests.ledger.rows import fingerprints
from tests.ledger.test_plain_groups import OWN
from tests.ledger.test_plain_transfers import NOT_PLAIN
from tests.ledger.threads import sql
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

# What a serialization failure looks like, with a column for the answer.
FAILS_ONCE = """
    SELECT pg_temp.fail() IS NULL
     WHERE %(org)s IS NOT NULL AND %(references)s::text[] IS NOT NULL
"""

# Of a key, of which a batch has one; and a link, which binds one to the next.
OF_KEYS = {"under a key that stands", "under a key that stands for another request"}
# It happens at the latest that its accounts have seen, as far as clocks may differ.
DATED = "before what its account has seen"


@pytest.fixture
def books():
    return make_three()


@pytest.fixture
def decided(monkeypatch):
    """How many commands the engine decided so far."""
    seen = []
    run = _engine.run

    def counted(**given):
        seen.extend(given["commands"])
        return run(**given)

    monkeypatch.setattr(_engine, "run", counted)
    return seen


def engine_alone(monkeypatch):
    """Have the engine decide what is plain, too."""
    monkeypatch.setattr(_plain_batch, "_may_be_plain", lambda *_: False)


def of(debit, credit, amount=1, **more):
    return TransferRequest(
        debit_account_id=debit, credit_account_id=credit, amount_minor=amount,
        **{"currency": "EUR", **more},
    )  # fmt: skip


def batch(organization, transfers, *, key="b", mode="atomic", now=NOW):
    return operations.post_transfers(
        organization_id=organization, transfers=transfers, mode=mode, idempotency_key=key,
        actor=ACTOR, now=now,
    )  # fmt: skip


def asked_again(one):
    """What a ticket of another test asks for, as one of a batch."""
    command: Transfer = one.command
    return of(
        command.debit_account_id, command.credit_account_id, command.amount_minor,
        currency=command.currency, reference=command.reference, up_to=command.up_to,
        force=command.force, linked=command.linked, effective_at=command.effective_at,
    )  # fmt: skip


def written(organization):
    """All that transfers wrote, in their order, without what each run has of its own."""
    events = OutboxEvent.objects.filter(organization_id=organization, data__kind="transfer")
    entries = JournalEntry.objects.filter(organization_id=organization, kind="transfer")
    batches = OutboxBatch.objects.filter(id__in=events.values("batch_id"))
    places = {row.id: place for place, row in enumerate(entries.order_by("id"))}
    return [
        [{name: value for name, value in row.items() if name not in OWN} for row in rows]
        for rows in (
            entries.order_by("id").values(),
            sorted(
                Posting.objects.filter(entry_id__in=places).values(),
                key=lambda row: (places[row["entry_id"]], row["number"]),
            ),
            batches.order_by("id").values(),
            events.order_by("batch_id", "ordinal").values(),
        )
    ] + [sql(
        "SELECT b.posted_debits, b.posted_credits, b.pending_debits, b.pending_credits, b.version,"
        " b.latest_effective_at FROM ledger_balance b JOIN ledger_account a ON a.id = b.id"
        " WHERE b.organization_id = %s ORDER BY a.code", organization,
    )]  # fmt: skip


def answered(result):
    """What a batch was answered, by the codes of its accounts."""
    codes = dict(sql("SELECT id, code FROM ledger_account"))
    return (
        [codes[one.id] for one in result.balances], [one[1:] for one in result.balances],
        result.amounts, len(result.entry_ids), result.created_at,
        {place: (r.code, sorted(r.details)) for place, r in result.refusals.items()},
    )  # fmt: skip


class TestRows:
    def series(self, seed, count=50):
        """So many transfers there and back over accounts of both kinds, some money reserved."""
        organization, ann, bob, cy = make_three()
        bank = open_account(organization, "bank:ba_1:EUR", type_="asset", floor=None, internal=True)
        till = open_account(organization, "till:1:EUR", type_="asset", floor=0)
        post(organization, PlaceHold(
            id=new_id(), debit_account_id=ann, credit_account_id=bank, currency="EUR",
            amount_minor=7_00,
        ))  # fmt: skip
        post(organization, move(till, cy, 50_00))
        fund(organization, bob, 100_00)
        chosen = random.Random(seed)
        texts = [{}, {"description": "Rück — 'quoted'"}, {"metadata": {"order": "4711", "ü": '"'}},
                 {"reference": 'order {n} "ü"'}]  # fmt: skip
        asked = []
        for n in range(count):
            pair = chosen.sample([ann, bob, cy, till], 2)
            more = dict(chosen.choice(texts))
            if "reference" in more:
                more["reference"] = more["reference"].format(n=n)
            asked.append(of(*pair, chosen.choice([1, 5, 70]), **more))
        return organization, asked

    # From 250 on Postgres is at the rows while their events are made.
    @pytest.mark.parametrize(
        ("count", "seed", "mode"),
        [(50, 0, "atomic"), (50, 1, "independent"), (50, 2, "atomic"), (1, 3, "atomic"),
         (300, 4, "independent")],
    )  # fmt: skip
    def test_and_answers_are_those_of_the_engine(self, monkeypatch, decided, count, seed, mode):
        texts, counts = [], []
        for is_alone in (False, True):
            organization, asked = self.series(seed, count)
            decided.clear()
            with monkeypatch.context() as patched:
                if is_alone:
                    engine_alone(patched)
                told = answered(batch(organization, asked, mode=mode))
            texts.append((told, written(organization)))
            counts.append(len(decided))

        assert texts[0] == texts[1]
        assert counts == [0, count]
        assert breaches() == []

    def test_are_written_without_the_engine(self, books, decided):
        organization, ann, bob, cy = books
        asked = [of(ann, bob, 5, reference=f"r-{n}") for n in range(3)] + [of(bob, cy, 15)]

        made = batch(organization, asked)

        assert decided == []
        assert [len(rows) for rows in written(organization)] == [5, 10, 2, 5, 4]
        assert made.amounts == (5, 5, 5, 15)
        assert made.refusals == {}
        # Each account once, as it stands after the last, in the order in which they are named.
        assert [one.id for one in made.balances] == [ann, bob, cy]
        for one in made.balances:
            now = balance(organization, one.id)
            assert one[1:] == (now.version, now.posted, now.available)
        entries = JournalEntry.objects.filter(id__in=made.entry_ids)
        assert {row.reference for row in entries} == {"r-0", "r-1", "r-2", None}
        assert breaches() == []

    def test_name_the_accounts_and_the_events_of_their_own_transfer(self, books):
        organization, ann, bob, cy = books
        asked = [of(ann, bob, 5), of(bob, cy, 3), of(cy, ann, 1)]

        made = batch(organization, asked)

        events = OutboxEvent.objects.filter(data__kind="transfer").order_by("batch_id", "ordinal")
        for one, entry_id, event in zip(asked, made.entry_ids, list(events)[-3:], strict=True):
            legs = [(one.debit_account_id, one.amount_minor),
                    (one.credit_account_id, -one.amount_minor)]  # fmt: skip
            postings = Posting.objects.filter(entry_id=entry_id).order_by("number")
            assert [(row.account_id, row.amount_minor) for row in postings] == legs
            assert [line["amount"] for line in event.data["postings"]] == [a for _, a in legs]

    def test_of_a_replay_are_not_written_again(self, books):
        organization, ann, bob, _ = books
        first = batch(organization, [of(ann, bob)] * 3)
        before = fingerprints()

        again = batch(organization, [of(ann, bob)] * 3)

        assert again.batch_id == first.batch_id
        assert again.entry_ids == first.entry_ids
        assert fingerprints() == before


class TestTime:
    @pytest.mark.parametrize("microseconds", [1, 5_000_000])
    def test_is_the_latest_that_one_of_their_accounts_has_seen(self, books, decided, microseconds):
        """Of another process, whose clock is ahead, or which was first and asked later."""
        organization, ann, bob, cy = books
        later = NOW + timedelta(microseconds=microseconds)
        transfer(organization, ann, bob, 1, key="k", effective_at=later)
        decided.clear()

        made = batch(organization, [of(ann, cy), of(bob, cy)])

        assert decided == []
        entries = JournalEntry.objects.filter(id__in=made.entry_ids)
        assert {row.effective_at for row in entries} == {later}
        assert {row.effective_at for row in Posting.objects.filter(entry_id__in=entries)} == {later}
        for event in OutboxEvent.objects.filter(data__kind="transfer").order_by("-id")[:2]:
            assert event.occurred_at == NOW
            assert event.data["effective_at"] == print_instant(later)
        seen = sql("SELECT latest_effective_at FROM ledger_balance WHERE id = %s", cy)
        assert seen == [(later,)]
        assert breaches() == []

    def test_that_no_clock_would_show_is_the_engines(self, books, decided):
        organization, ann, bob, cy = books
        later = NOW + timedelta(microseconds=5_000_001)
        transfer(organization, ann, bob, 1, key="k", effective_at=later)
        decided.clear()

        made = batch(organization, [of(ann, cy), of(ann, cy)])

        assert len(decided) == 2
        entries = JournalEntry.objects.filter(id__in=made.entry_ids)
        assert {row.effective_at for row in entries} == {NOW}
        assert breaches() == []


class TestOneThatIsNotPlain:
    """Among five others: none of them is posted without the engine, which says why."""

    def among(self, organization, odd):
        dee, eve = (open_account(organization, f"wallets:{name}:EUR") for name in ("dee", "eve"))
        fund(organization, dee, 5)
        plain = [of(dee, eve) for _ in range(5)]
        return [*plain[:2], asked_again(odd), *plain[2:]]

    NAMES = sorted(NOT_PLAIN.keys() - OF_KEYS - {"under a reference", DATED})

    @pytest.mark.parametrize("name", NAMES)
    def test_leaves_them_to_the_engine_and_nothing_is_written(
        self, books, decided, monkeypatch, name
    ):
        organization, ann, bob, _ = books
        asked = self.among(organization, NOT_PLAIN[name](organization, ann, bob))
        decided.clear()
        written_plainly = []
        monkeypatch.setattr(_writing, "write_plainly", lambda **_: written_plainly.append(1))

        with suppress(Refusal):
            batch(organization, asked)

        assert written_plainly == []
        assert len(decided) == 6

    @pytest.mark.parametrize("mode", ["atomic", "independent"])
    @pytest.mark.parametrize("name", NAMES)
    def test_is_answered_as_the_engine_answers_it(self, monkeypatch, name, mode):
        texts = []
        for is_alone in (False, True):
            organization, ann, bob = make_books()
            asked = self.among(organization, NOT_PLAIN[name](organization, ann, bob))
            with monkeypatch.context() as patched:
                if is_alone:
                    engine_alone(patched)
                try:
                    told = answered(batch(organization, asked, mode=mode))
                except Refusal as refusal:
                    told = refusal.code, refusal.details.get("index"), sorted(refusal.details)
            texts.append((told, written(organization)))

        assert texts[0] == texts[1]
        assert breaches() == []

    def test_is_under_a_reference_that_stands(self, books, decided):
        organization, ann, bob, _ = books
        first = batch(organization, [of(ann, bob, 5, reference="order-1")])

        again = batch(
            organization, [of(ann, bob), of(ann, bob, 5, reference="order-1")], key="again"
        )

        assert len(decided) == 2
        assert again.entry_ids[1] == first.entry_ids[0]
        assert balance(organization, bob).available == 6
        assert breaches() == []

    def test_is_a_second_one_under_the_same_reference(self, books, decided):
        organization, ann, bob, _ = books

        made = batch(organization, [of(ann, bob, 5, reference="order-1")] * 2)

        assert len(decided) == 2
        assert made.entry_ids[0] == made.entry_ids[1]
        assert balance(organization, bob).available == 5

    def test_is_under_a_reference_of_kassas_own(self, books, decided):
        organization, ann, bob, _ = books

        with pytest.raises(Refusal) as refused:
            batch(organization, [of(ann, bob, reference="payout:1")])

        assert refused.value.code == "reference_reserved"
        assert len(decided) == 1

    @pytest.mark.parametrize("amounts", [[2**63 - 1] * 3, [COUNTER_MAX, 1], [2**70]])
    def test_is_more_than_can_be_counted(self, books, amounts):
        organization, ann, bob, _ = books
        before = written(organization)

        with pytest.raises(InsufficientFunds):
            batch(organization, [of(ann, bob, amount) for amount in amounts])

        assert written(organization) == before

    @pytest.mark.parametrize("side", ["posted_debits", "posted_credits"])
    def test_has_no_room(self, books, side):
        organization, ann, bob, _ = books
        leave_room(bob, 5)
        pair = (bob, ann) if side == "posted_debits" else (ann, bob)

        with pytest.raises(Refusal) as refused:
            batch(organization, [of(*pair, 3)] * 2)

        assert (refused.value.code, refused.value.details["index"]) == ("balance_too_large", 1)
        assert sql(f"SELECT {side} FROM ledger_balance WHERE id = %s", bob) == [(COUNTER_MAX - 5,)]


class TestFaults:
    def test_of_the_look_at_references_run_the_batch_again(self, books, monkeypatch, decided):
        """Where another one is not plain, too: nobody else would be told of it."""
        organization, ann, bob, _ = books
        sql(
            "CREATE OR REPLACE FUNCTION pg_temp.fail() RETURNS integer LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"
        )
        looks = []
        stands = _locks._STANDS

        def look(statement, values):
            if statement == stands:
                looks.append(statement)
                if len(looks) == 1:
                    statement = FAILS_ONCE
            return ask(statement, values)

        ask = statements.ask
        monkeypatch.setattr(_locks.statements, "ask", look)
        decided.clear()

        made = batch(
            organization, [of(ann, bob, reference="r"), of(ann, bob, 10**12)], mode="independent"
        )

        assert len(looks) == 2
        assert [one is None for one in made.entry_ids] == [False, True]
        assert balance(organization, bob).available == 1
        assert breaches() == []

    def test_between_what_is_written_and_its_commit_leave_nothing(self, books, monkeypatch):
        organization, ann, bob, _ = books
        before = written(organization)
        publish, other = outbox.publish_taken, connection.copy()

        def end(events):
            publish(events)
            [[pid]] = sql("SELECT pg_backend_pid()")
            with other.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        monkeypatch.setattr(outbox, "publish_taken", end)
        with pytest.raises(OperationalError):
            batch(organization, [of(ann, bob)] * 300)
        other.close()
        monkeypatch.undo()

        assert written(organization) == before
        made = batch(organization, [of(ann, bob)] * 300)
        assert len(set(made.entry_ids)) == 300
        assert balance(organization, bob).available == 300
        assert breaches() == []


class TestRaces:
    def test_of_batches_there_and_back_lose_nothing_and_overdraw_nothing(self, books):
        organization, ann, bob, cy = books
        fund(organization, bob, 100_00)
        routes = [(ann, bob), (bob, ann), (bob, cy), (cy, ann)]

        def post_some(number):
            for turn in range(5):
                pair = routes[(number + turn) % 4]
                with suppress(InsufficientFunds):
                    batch(organization, [of(*pair, 7)] * 40, key=f"{number}-{turn}")

        race(*(partial(post_some, number) for number in range(4)))

        now = [balance(organization, id_) for id_ in (ann, bob, cy)]
        assert sum(one.posted for one in now) == 200_00
        assert all(one.available >= 0 for one in now)
        assert breaches() == []

    def test_of_the_same_new_references_post_each_once(self, books):
        organization, ann, bob, cy = books
        # Between accounts of their own, so that no lock of a balance keeps them apart.
        fund(organization, cy, 100_00)
        dee = open_account(organization, "wallets:dee:EUR")
        asked = {
            "1": [of(ann, bob, reference=f"r-{n}") for n in range(20)],
            "2": [of(cy, dee, reference=f"r-{n}") for n in range(20)],
        }
        refused = []

        def post_one(key):
            try:
                batch(organization, asked[key], key=key)
            except Refusal as refusal:
                refused.append(refusal.code)

        race(partial(post_one, "1"), partial(post_one, "2"))

        assert refused == ["reference_reused"]
        assert JournalEntry.objects.filter(reference__startswith="r-").count() == 20
        assert {balance(organization, id_).available for id_ in (bob, dee)} == {0, 20}
        assert breaches() == []
