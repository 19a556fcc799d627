"""Entries join the audit chain after the fact: in order, once, and nobody waits for it."""

import hashlib
import json
import threading
from datetime import UTC, date, datetime
from functools import partial

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import F, Max, Min, Sum

from apps.core import outbox, transactions
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken
from apps.core.ids import encode_id, new_id
from apps.ledger import operations, queries, tasks
from apps.ledger.models import (
    ChainHead,
    ChainLink,
    JournalEntry,
    LedgerAccount,
    MonthlyTotal,
    Posting,
)
from apps.ledger.operations import _sealing
from apps.ledger.rules import Leg, PostEntry, chain
from tests.accounts.factories import create_staff
from tests.ledger.factories import (
    NOW,
    committed,
    create_organization,
    fund,
    move,
    open_account,
    post,
)
from tests.support import kill_hard, race, running, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "customers:cus_ann:available:EUR")
    bob = open_account(organization, "customers:cus_bob:available:EUR")
    fund(organization, ann, 1_000_00)
    return organization, ann, bob


def seal(organization, *, limit: int = 10_000) -> int:
    """Number what was committed and seal all of it, as relay and job do."""
    outbox.relay_organization(organization_id=organization)
    total = 0
    while count := operations.seal_entries(organization_id=organization, now=NOW, limit=limit):
        total += count
    return total


def links(organization) -> list[tuple[int, object]]:
    rows = ChainLink.objects.filter(organization_id=organization).order_by("position")
    return list(rows.values_list("position", "entry_id"))


def bank_of(organization):
    codes = ["bank:ba_1:EUR"]
    return queries.account_ids(organization_id=organization, codes=codes)[codes[0]]


def recomputed(organization) -> bytes:
    """Recompute the chain as an outsider would: by json, hashlib and the printed rule alone."""
    accounts = {row.id: row for row in LedgerAccount.objects.all()}
    places = {entry_id: position for position, entry_id in links(organization)}
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    previous = b""
    for position, entry_id in links(organization):
        entry = JournalEntry.objects.get(id=entry_id)
        content = [
            "kassa.chain.1", position, entry.kind, entry.reference, entry.description,
            round((entry.effective_at - epoch).total_seconds() * 1_000_000),
            round((entry.recorded_at - epoch).total_seconds() * 1_000_000),
            entry.actor, entry.metadata, places.get(entry.reverses_id),
            [
                [accounts[p.account_id].code, accounts[p.account_id].type, p.amount_minor,
                 p.currency, p.account_version, p.balance_after_minor]
                for p in Posting.objects.filter(entry_id=entry_id).order_by("number")
            ],
        ]  # fmt: skip
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(previous + text.encode()).digest()
    return previous


def assert_sealed(organization) -> None:
    """Every entry has one link, positions have no gap, hashes follow, totals are the postings'."""
    found = links(organization)
    assert [position for position, _ in found] == list(range(1, len(found) + 1))
    entries = JournalEntry.objects.filter(organization_id=organization)
    assert {entry_id for _, entry_id in found} == set(entries.values_list("id", flat=True))
    head = ChainHead.objects.get(organization_id=organization)
    assert (head.position, bytes(head.hash)) == (len(found), recomputed(organization))
    totals = MonthlyTotal.objects.filter(organization_id=organization)
    moved = Posting.objects.filter(organization_id=organization).values("account_id")
    for clock in ("effective", "recorded"):
        expected = moved.annotate(last=Max("account_version"), net=Sum("amount_minor"))
        summed = (
            totals.filter(clock=clock)
            .values("account_id")
            .annotate(
                first=Min("first_version"),
                last=Max("last_version"),
                count=Sum("postings"),
                net=Sum(F("debits_minor") - F("credits_minor")),
            )
        )
        assert {(row["account_id"], row["first"], row["last"], row["count"], row["net"])
                for row in summed} == {
            (row["account_id"], 1, row["last"], row["last"], row["net"]) for row in expected
        }  # fmt: skip


class TestSealEntries:
    def test_seals_in_the_order_of_the_feed(self, books):
        organization, ann, bob = books
        first = post(organization, move(ann, bob, 1_00))
        second = post(organization, *(move(ann, bob, cents) for cents in (1, 2, 3)))

        assert seal(organization) == 5

        entry_ids = [entry_id for _, entry_id in links(organization)]
        assert entry_ids[1:] == [outcome.entry_id for outcome in first + second]
        assert_sealed(organization)

    def test_is_recomputed_by_anybody_who_knows_the_rule(self, books):
        organization, ann, _ = books
        command = move(
            bank_of(organization), ann, 5, reference='r"1\\', description="Miete\n日本 \x07",
            metadata={"b": "é\u2028", "a": {"z": [1.5e20, 0.1, True, None], "y": 10**20}},
            effective_at=datetime(1901, 2, 3, 4, 5, 6, 789_012, tzinfo=UTC),
        )  # fmt: skip
        post(organization, command)
        committed(operations.reverse_entry)(
            organization_id=organization, entry_id=command.id, reason="test",
            actor=Actor.job("tests"), now=NOW,
        )  # fmt: skip

        assert seal(organization) == 3

        assert_sealed(organization)

    def test_goes_on_where_it_ended_portion_by_portion(self, books):
        organization, ann, bob = books
        for cents in range(1, 8):
            post(organization, move(ann, bob, cents))
        outbox.relay_organization(organization_id=organization)

        counts = [
            operations.seal_entries(organization_id=organization, now=NOW, limit=3)
            for _ in range(5)
        ]

        assert counts[-1] == 0
        assert sum(counts) == 8
        assert max(counts) <= 3
        assert_sealed(organization)

    def test_waits_for_the_relay(self, books):
        organization, *_ = books

        assert operations.seal_entries(organization_id=organization, now=NOW) == 0
        assert seal(organization) == 1
        assert seal(organization) == 0

    def test_passes_over_batches_without_an_entry(self, books):
        organization, *_ = books
        seal(organization)
        open_account(organization, "customers:cus_eve:available:EUR")

        assert seal(organization) == 0

        head = ChainHead.objects.get()
        assert (
            head.feed_position == queries.chain_status(organization_id=organization).feed_position
        )
        assert queries.list_organizations_to_seal() == []

    def test_keeps_organizations_apart(self, books):
        organization, *_ = books
        other = create_organization("Other")
        cy = open_account(other, "customers:cus_cy:available:EUR")
        fund(other, cy, 5)

        assert (seal(organization), seal(other)) == (1, 1)

        assert_sealed(organization)
        assert_sealed(other)

    def test_adds_to_the_months_of_both_clocks(self, books):
        organization, _, bob = books
        for day, cents in ((date(2026, 3, 31), 5), (date(2026, 4, 1), 7), (date(2026, 3, 2), 11)):
            instant = datetime(day.year, day.month, day.day, tzinfo=UTC)
            post(organization, move(bank_of(organization), bob, cents, effective_at=instant))
            seal(organization)

        rows = MonthlyTotal.objects.filter(account_id=bob)
        effective = rows.filter(clock="effective").order_by("month")
        assert list(effective.values_list("month", "credits_minor", "postings",
                                          "first_version", "last_version")) == [
            (date(2026, 3, 1), 16, 2, 1, 3), (date(2026, 4, 1), 7, 1, 2, 2),
        ]  # fmt: skip
        [recorded] = rows.filter(clock="recorded")
        assert (recorded.credits_minor, recorded.debits_minor, recorded.postings) == (23, 0, 3)

    def test_an_event_without_its_entry_stops_the_chain_and_says_so(self, books):
        organization, ann, bob = books
        [gone] = post(organization, move(ann, bob, 1))
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute("DELETE FROM ledger_journal_entry WHERE id = %s", [gone.entry_id])
            cursor.execute("SET session_replication_role = DEFAULT")
        outbox.relay_organization(organization_id=organization)

        with pytest.raises(InvariantBroken, match=encode_id("je", gone.entry_id)):
            operations.seal_entries(organization_id=organization, now=NOW)

        assert not ChainHead.objects.exists()

    def test_a_reversal_of_what_is_not_sealed_stops_the_chain_and_says_so(self, books):
        organization, ann, bob = books
        [original] = post(organization, move(ann, bob, 1))
        seal(organization)
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute("DELETE FROM ledger_chain_link WHERE entry_id = %s", [original.entry_id])
            cursor.execute("SET session_replication_role = DEFAULT")
        reversal = PostEntry(
            id=new_id(), legs=(Leg(bob, 1), Leg(ann, -1)), currency="EUR", kind="reversal",
            reverses=original.entry_id,
        )  # fmt: skip
        post(organization, reversal)

        with pytest.raises(InvariantBroken, match="what it reverses"):
            seal(organization)

        assert ChainHead.objects.get().position == 2


class TestRaces:
    def test_two_sealers_leave_neither_gap_nor_fork(self, books):
        organization, ann, bob = books
        for _ in range(5):
            for cents in range(1, 13):
                post(organization, move(ann, bob, cents))
            outbox.relay_organization(organization_id=organization)

            counts = race(*[partial(seal, organization, limit=2)] * 4)

            assert sum(counts) >= 12
            assert_sealed(organization)

    def test_sealers_among_twenty_who_post(self, books):
        organization, *_ = books
        accounts = [
            open_account(organization, f"customers:cus_{n}:available:EUR") for n in range(6)
        ]
        for account in accounts:
            fund(organization, account, 10_000_00)
        ended = threading.Barrier(20, timeout=60)
        posting = threading.Event()

        def pay(n: int) -> None:
            for turn in range(8):
                debit, credit = accounts[(n + turn) % 6], accounts[(n + 2 * turn + 1) % 6]
                if debit != credit:
                    post(organization, move(debit, credit, n + 1))
            if ended.wait() == 0:
                posting.set()

        def seal_meanwhile() -> int:
            total = 0
            while not posting.is_set():
                total += seal(organization, limit=7)
            return total

        outcomes = race(*(partial(pay, n) for n in range(20)), seal_meanwhile, seal_meanwhile)

        assert sum(outcomes[20:]) > 0
        seal(organization)
        assert_sealed(organization)

    def test_a_posting_waits_for_no_lock_of_the_sealer(self, books):
        organization, ann, bob = books
        outbox.relay_organization(organization_id=organization)
        sealed, go_on = threading.Event(), threading.Event()

        @transactions.outermost
        def seal_slowly() -> None:
            head = queries.lock_chain_head(organization_id=organization)
            _sealing.append(head=head, entry_ids=[JournalEntry.objects.earliest("id").id], now=NOW)
            sealed.set()
            assert go_on.wait(30)

        def post_meanwhile() -> float:
            assert sealed.wait(30)
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '200ms'")
            post(organization, move(ann, bob, 1))
            go_on.set()
            return 0

        race(seal_slowly, post_meanwhile)

        assert JournalEntry.objects.count() == 2
        assert ChainLink.objects.count() == 1


SEALS_AND_STOPS = """
import os, sys, time
from uuid import UUID
import django

django.setup()
from django.db import connection
from apps.core import clock
from apps.ledger import operations
from apps.ledger.operations import _sealing

append = _sealing.append

def append_and_stop(**values):
    append(**values)
    if operations.calls == 2:
        print("stopped", flush=True)
        time.sleep(60)
    operations.calls += 1

_sealing.append, operations.calls = append_and_stop, 0
while operations.seal_entries(organization_id=UUID(sys.argv[1]), now=clock.now(), limit=2):
    pass
"""


class TestKilledSealer:
    def test_leaves_nothing_half_done_and_another_goes_on(self, books):
        organization, ann, bob = books
        for cents in range(1, 10):
            post(organization, move(ann, bob, cents))
        outbox.relay_organization(organization_id=organization)

        with running("-c", SEALS_AND_STOPS, str(organization)) as process:
            assert process.stdout.readline().strip() == "stopped"
            kill_hard(process)
        wait_until(lambda: not others_in_transaction())

        sealed = ChainHead.objects.get().position
        # The third portion was written whole, and never committed.
        assert sealed == ChainLink.objects.count() == 3
        assert seal(organization) == 10 - sealed
        assert_sealed(organization)


def others_in_transaction() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL)"
        )
        return cursor.fetchone()[0]


class TestJob:
    def test_seals_every_organization_in_turn(self, books):
        organization, *_ = books
        other = create_organization("Other")
        cy = open_account(other, "customers:cus_cy:available:EUR")
        fund(other, cy, 5)
        outbox.relay(limit=100)

        list(tasks.seal_due("2026-11-02T09:30Z", NOW))

        assert_sealed(organization)
        assert_sealed(other)

    def test_a_chain_that_cannot_go_on_stops_no_other(self, books, monkeypatch):
        organization, *_ = books
        other = create_organization("Other")
        fund(other, open_account(other, "customers:cus_cy:available:EUR"), 5)
        outbox.relay(limit=100)
        real = operations.seal_entries

        def seal_entries(*, organization_id, now):
            if organization_id == organization:
                raise InvariantBroken("missing")
            return real(organization_id=organization_id, now=now)

        monkeypatch.setattr(operations, "seal_entries", seal_entries)

        list(tasks.seal_due("2026-11-02T09:30Z", NOW))

        assert ChainHead.objects.get().organization_id == other

    def test_is_declared(self):
        from apps.core import jobs  # noqa: PLC0415  (its register is private)

        assert jobs._jobs["ledger.seal"].schedule == jobs.Every(minutes=1)


class TestSealLedger:
    def test_seals_what_waits_and_prints_the_hash(self, books, capsys):
        organization, ann, bob = books
        post(organization, move(ann, bob, 1))

        call_command("seal_ledger")
        call_command("seal_ledger", organization=encode_id("org", organization))

        out = capsys.readouterr().out
        assert "2 entries sealed" in out
        assert f"position 2, hash {recomputed(organization).hex()}" in out
        assert_sealed(organization)


class TestChainStatus:
    def test_counts_what_waits(self, books):
        organization, ann, bob = books
        before = queries.chain_status(organization_id=organization)
        seal(organization)
        post(organization, move(ann, bob, 1))

        after = queries.chain_status(organization_id=organization)

        assert (before.position, before.hash, before.waiting) == (0, b"", 1)
        assert (after.position, after.waiting) == (1, 1)
        assert after.oldest_waiting_at > before.oldest_waiting_at


def test_the_content_is_what_the_rule_says():
    content = chain.EntryContent(
        kind="transfer", reference=None, description='a "b"', effective_us=1, recorded_us=-2,
        actor="job:tests", metadata={"b": 1, "a": "é"}, reverses=3,
        postings=(chain.SealedPosting("a:b", "asset", 5, "EUR", 1, 5),
                  chain.SealedPosting("c", "income", -5, "EUR", 9, 5)),
    )  # fmt: skip

    text = chain.encode(4, content)

    assert text.decode() == (
        '["kassa.chain.1",4,"transfer",null,"a \\"b\\"",1,-2,"job:tests",{"a":"é","b":1},3,'
        '[["a:b","asset",5,"EUR",1,5],["c","income",-5,"EUR",9,5]]]'
    )
    assert chain.link(b"x", 4, content) == hashlib.sha256(b"x" + text).digest()


class TestChainScreen:
    def test_shows_how_far_the_chain_has_come(self, books, client):
        organization, ann, bob = books
        seal(organization)
        post(organization, move(ann, bob, 1))
        call_command("verify_ledger", quiet=True)
        head = ChainHead.objects.get()
        staff = create_staff("finance_approver", organizations=[], sees_all=True)
        client.force_login(staff)

        listed = client.get("/admin/ledger/chainhead/").content.decode()
        shown = client.get(f"/admin/ledger/chainhead/{head.id}/").content.decode()

        assert bytes(head.hash).hex()[:8] in listed
        assert bytes(head.hash).hex() in shown
        assert encode_id("je", entry_of(organization, 1)) in shown
        assert "Last verified" in shown

    def test_is_closed_to_support(self, books, client):
        client.force_login(create_staff("support", organizations=[], sees_all=True))

        assert client.get("/admin/ledger/chainhead/").status_code == 403


def entry_of(organization, position):
    return ChainLink.objects.get(organization_id=organization, position=position).entry_id
