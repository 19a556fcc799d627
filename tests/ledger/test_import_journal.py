"""A journal exported and imported: the same balances, and the same chain."""

import hashlib
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.core.management import CommandError, call_command

from apps.core import clock
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent
from apps.ledger import errors, operations, queries
from apps.ledger.models import (
    Balance,
    EntryMetadata,
    JournalEntry,
    LedgerAccount,
)
from apps.ledger.operations import AccountChange, _importing
from apps.ledger.rules import AccountStatus, Leg, PlaceHold, PostEntry
from tests.ledger.factories import (
    ACTOR,
    NOW,
    committed,
    create_organization,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.journals import books_of, export, refused, rewrite, run_import
from tests.ledger.rows import fingerprints
from tests.support import kill_hard, past_the_guards, race, running

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def origin():
    """Three currencies, one entry over two of them, a reversal, back-dating, a floor set later."""
    organization = create_organization("Origin")
    accounts = {}
    for currency, amount in (("EUR", 100_50), ("JPY", 9_000), ("KWD", 7_125)):
        for name in ("ann", "bob"):
            code = f"customers:cus_{name}:available:{currency}"
            accounts[name, currency] = open_account(organization, code)
        fund(organization, accounts["ann", currency], amount, currency=currency)
        post_transfer(
            organization, accounts["ann", currency], accounts["bob", currency], amount // 3,
            key=currency, currency=currency, reference=f"ref-{currency}",
            description='Rent "June" \\ =1+1; é\n日本', metadata={"b": "2", "a": "1"},
        )  # fmt: skip
    trader = open_account(organization, "trading:x", type_="equity", floor=None)
    fx = {c: open_account(organization, f"trading:{c}", type_="equity", floor=None)
          for c in ("EUR", "JPY")}  # fmt: skip
    exchange = PostEntry(
        id=new_id(), currency="EUR", kind="swap", metadata={"rate": 162.5, "big": 10**20},
        legs=(Leg(accounts["ann", "EUR"], 10_00), Leg(fx["EUR"], -10_00),
              Leg(fx["JPY"], 1_625, "JPY"), Leg(accounts["ann", "JPY"], -1_625, "JPY")),
    )  # fmt: skip
    post(organization, exchange)
    committed(operations.reverse_entry)(
        organization_id=organization, entry_id=exchange.id, reason="test", actor=ACTOR, now=NOW
    )
    for year in (1901, 2025, 2031):
        dated = datetime(year, 2, 3, 4, 5, 6, 789_012, tzinfo=UTC)
        post(organization, move(fx["EUR"], trader, 7, effective_at=dated))
    EntryMetadata.objects.create(
        organization_id=organization, entry_id=exchange.id, number=1, metadata={"rate": "162.5"},
        actor="staff:x", recorded_at=NOW,
    )  # fmt: skip
    # What holds now did not hold before: it was overdrawn by 21 while it had no floor.
    post(organization, move(trader, fx["EUR"], 50))
    post(organization, move(fx["EUR"], trader, 60))
    Balance.objects.filter(id=trader).update(min_available_minor=-5, status="frozen")
    LedgerAccount.objects.filter(id=trader).update(metadata={"desk": "é"})
    return organization


@pytest.fixture
def file(origin, tmp_path):
    return export(origin, tmp_path / "journal.jsonl")


@pytest.fixture
def pair():
    """Two accounts and one entry, and nothing else."""
    organization = create_organization("Origin")
    ann, bob = (
        open_account(organization, f"wallets:{who}:EUR", floor=None) for who in ("ann", "bob")
    )
    [outcome] = post(organization, move(ann, bob, 1))
    return organization, outcome.entry_id


class TestImportJournal:
    def test_makes_the_same_books_and_the_same_chain(self, origin, file, capsys):
        target = create_organization("Target")

        run_import(target, file)

        assert books_of(target) == books_of(origin)
        assert len(books_of(target)["entries"]) == 13
        call_command("verify_ledger", quiet=True)
        assert "13 entries, and the file's chain" in capsys.readouterr().out

    def test_exports_again_what_was_imported(self, origin, file, tmp_path):
        target = create_organization("Target")
        run_import(target, file)

        again = export(target, tmp_path / "again.jsonl")

        def without_ids(path):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            return [{k: v for k, v in line.items() if k not in {"id", "organization"}}
                    for line in lines]  # fmt: skip

        assert without_ids(again) == without_ids(file)

    def test_takes_a_file_that_was_written_anew_by_another_tool(self, origin, file):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(line, indent=None) + "\r\n" for line in lines))
        target = create_organization("Target")

        run_import(target, file)

        assert books_of(target) == books_of(origin)

    def test_of_no_entries_opens_the_accounts(self, tmp_path):
        organization, target = create_organization(), create_organization("Target")
        open_account(organization, "customers:cus_ann:available:EUR")

        run_import(target, export(organization, tmp_path / "empty.jsonl"))

        assert books_of(target)["accounts"] == books_of(organization)["accounts"]
        assert books_of(target)["entries"] == []

    def test_keeps_what_was_said_later_of_an_entry_that_nothing_else_names(self, pair, tmp_path):
        organization, moved = pair
        for number, metadata in enumerate(({"a": "1"}, {}), 1):
            EntryMetadata.objects.create(
                organization_id=organization, entry_id=moved, number=number, metadata=metadata,
                actor="staff:x", recorded_at=NOW,
            )  # fmt: skip
        target = create_organization("Target")

        run_import(target, export(organization, tmp_path / "journal.jsonl"))

        assert len(books_of(target)["metadata"]) == 2
        assert books_of(target) == books_of(organization)

    def test_again_changes_nothing(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)
        before = books_of(target)

        run_import(target, file)

        assert books_of(target) == before

    def test_goes_on_after_it_was_stopped(self, origin, file, monkeypatch):
        target = create_organization("Target")
        monkeypatch.setattr(_importing, "PORTION", 4)
        real, calls = _importing._post, []

        def stop_in_the_third(*values):
            calls.append(values)
            if len(calls) == 3:
                raise KeyboardInterrupt
            real(*values)

        monkeypatch.setattr(_importing, "_post", stop_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            run_import(target, file)
        assert JournalEntry.objects.filter(organization_id=target).count() == 8
        monkeypatch.setattr(_importing, "_post", real)

        run_import(target, file)

        assert books_of(target) == books_of(origin)

    def test_goes_on_after_it_was_killed(self, origin, file):
        target = create_organization("Target")
        with running("-c", IMPORTS_AND_STOPS, str(file), encode_id("org", target)) as process:
            for line in process.stdout:
                if line.strip() == "stopped":
                    break
            os.kill(process.pid, signal.SIGKILL)
            kill_hard(process)
        assert JournalEntry.objects.filter(organization_id=target).count() == 8

        run_import(target, file)

        assert books_of(target) == books_of(origin)

    # All at once the two meet in one place; in portions, wherever one overtakes the other.
    @pytest.mark.parametrize("portion", [1, 4, _importing.PORTION])
    def test_twice_at_once_is_imported_once(self, origin, file, monkeypatch, portion):
        monkeypatch.setattr(_importing, "PORTION", portion)
        every = JournalEntry.objects.filter(organization_id=origin).count()
        for _ in range(5):
            target = create_organization("Target")

            outcomes = race(*[partial(take_in, target, file)] * 2)

            # Both, if one had ended before the other began.
            assert sorted(getattr(one, "code", "done") for one in outcomes) in (
                ["done", "import_under_way"],
                ["done", "done"],
            )
            assert JournalEntry.objects.filter(organization_id=target).count() == every
            run_import(target, file)
            assert books_of(target) == books_of(origin)


IMPORTS_AND_STOPS = """
import sys, time
import django

django.setup()
from django.core.management import call_command
from apps.ledger.operations import _importing

_importing.PORTION, real, calls = 4, _importing._is_as_filed, []

def stop_in_the_third(*values):
    calls.append(values)
    if len(calls) == 11:
        print("stopped", flush=True)
        time.sleep(60)
    return real(*values)

_importing._is_as_filed = stop_in_the_third
call_command("import_journal", sys.argv[1], organization=sys.argv[2])
"""


def change_account(organization, code, change) -> None:
    [account_id] = queries.account_ids(organization_id=organization, codes=[code]).values()
    committed(operations.change_account)(
        organization_id=organization, account_id=account_id, change=change, actor=ACTOR, now=NOW
    )


def attempt(organization, path, *, on_progress=lambda *_: None) -> str:
    try:
        take_in(organization, path, on_progress=on_progress)
    except (errors.ImportUnderWay, errors.OrganizationNotEmpty, errors.JournalFileRefused):
        return "refused"
    return "done"


def take_in(organization, path, *, on_progress=lambda *_: None) -> None:
    def read():
        with path.open("rb") as lines:
            yield from lines

    operations.import_journal(
        organization_id=organization, read=read, actor=Actor.job("tests"), now=NOW,
        on_progress=on_progress,
    )  # fmt: skip


def stop(*_) -> None:
    raise KeyboardInterrupt


class TestRefusals:
    @pytest.mark.parametrize("what", ["account", "entry", "hold"])
    def test_an_organization_that_is_not_empty(self, file, what):
        target = create_organization("Target")
        ann = open_account(target, "customers:cus_ann:available:EUR")
        if what == "account":
            open_account(target, "customers:cus_other:available:EUR")
        else:
            fund(target, ann, 5)
        if what == "hold":
            bob = open_account(target, "customers:cus_bob:available:EUR")
            post(target, PlaceHold(id=new_id(), debit_account_id=ann, credit_account_id=bob,
                                   amount_minor=5, currency="EUR"))  # fmt: skip
        before = JournalEntry.objects.filter(organization_id=target).count()

        with pytest.raises(CommandError, match="organization_not_empty"):
            run_import(target, file)

        assert JournalEntry.objects.filter(organization_id=target).count() == before
        assert LedgerAccount.objects.filter(organization_id=target).count() <= 3

    def test_what_was_posted_after_an_import(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)
        codes = ["customers:cus_ann:available:EUR", "customers:cus_bob:available:EUR"]
        ids = queries.account_ids(organization_id=target, codes=codes)
        post(target, move(*ids.values(), 1))

        with pytest.raises(CommandError, match="organization_not_empty"):
            run_import(target, file)

    @pytest.mark.parametrize(
        "change",
        [
            AccountChange(reason="fraud", status=AccountStatus.FROZEN),
            AccountChange(reason="kept back", sets_floor=True, min_available_minor=50),
            AccountChange(reason="moved", metadata={"desk": "b"}),
        ],
        ids=["status", "floor", "metadata"],
    )
    def test_an_account_that_was_changed_after_an_import(self, origin, file, change):
        target = create_organization("Target")
        run_import(target, file)
        change_account(target, "customers:cus_bob:available:EUR", change)
        before = books_of(target), fingerprints("ledger_", "core_")

        assert attempt(target, file) == "refused"

        assert (books_of(target), fingerprints("ledger_", "core_")) == before

    def test_an_account_that_was_changed_and_is_as_an_import_opens_it(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)
        change = AccountChange(
            reason="done", status=AccountStatus.OPEN, sets_floor=True, metadata={}
        )
        change_account(target, "trading:x", change)
        before = books_of(target)

        assert attempt(target, file) == "refused"

        assert books_of(target) == before

    def test_an_account_that_is_changed_under_way_leaves_no_other_finished(self, origin, file):
        target = create_organization("Target")
        change = AccountChange(reason="fraud", status=AccountStatus.FROZEN)

        def freeze(what, _):
            if what == "entries posted":
                change_account(target, "customers:cus_bob:available:EUR", change)

        assert attempt(target, file, on_progress=freeze) == "refused"

        terms = Balance.objects.filter(organization_id=target)
        assert set(terms.values_list("status", "min_available_minor")) == {
            ("open", None), ("frozen", None),
        }  # fmt: skip
        assert AuditEvent.objects.filter(act="ledger.change_account").count() == 1

    def test_a_clients_transfer_under_way_finds_no_account_without_its_floor(self, origin, file):
        target = create_organization("Target")
        codes = ["customers:cus_ann:available:EUR", "customers:cus_bob:available:EUR"]
        met = []

        def take(what, _):
            if what == "entries posted":
                ids = queries.account_ids(organization_id=target, codes=codes)
                with pytest.raises(errors.LedgerAccountReserved) as refused:
                    post_transfer(target, *ids.values(), 1_000_000, key="take")
                met.append(refused)

        assert attempt(target, file, on_progress=take) == "done"

        assert len(met) == 1
        run_import(target, file)
        assert books_of(target) == books_of(origin)

    @pytest.mark.parametrize("amount", [1, 1_000_000])
    def test_what_kassa_posts_under_way_keeps_accounts_from_clients(self, file, amount):
        target = create_organization("Target")
        codes = ["customers:cus_ann:available:EUR", "customers:cus_bob:available:EUR"]

        def act(what, _):
            if what == "entries posted":
                ids = queries.account_ids(organization_id=target, codes=codes)
                post(target, move(*ids.values(), amount))

        assert attempt(target, file, on_progress=act) == "refused"

        terms = Balance.objects.filter(organization_id=target)
        assert set(terms.values_list("status", "min_available_minor", "internal")) == {
            ("open", None, True),
        }  # fmt: skip

    @pytest.mark.parametrize("said", ["under way", "between two runs"])
    def test_what_a_client_says_of_an_entry_in_place_of_what_the_file_does(
        self, file, monkeypatch, said
    ):
        target = create_organization("Target")

        def annotate(what="entries posted", _=0):
            if what != "entries posted":
                return
            entry = JournalEntry.objects.get(organization_id=target, kind="swap")
            operations.annotate_entry(
                organization_id=target, entry_id=entry.id, metadata={"note": "mine"},
                idempotency_key="note", actor=ACTOR, now=NOW,
            )  # fmt: skip

        if said == "under way":
            told = attempt(target, file, on_progress=annotate)
        else:
            with monkeypatch.context() as stopped:
                stopped.setattr(_importing, "_keep_metadata", stop)
                with pytest.raises(KeyboardInterrupt):
                    attempt(target, file)
            annotate()
            told = attempt(target, file)

        assert told == "refused"
        [standing] = EntryMetadata.objects.filter(organization_id=target)
        assert standing.metadata == {"note": "mine"}
        terms = Balance.objects.filter(organization_id=target)
        assert set(terms.values_list("internal", flat=True)) == {True}

    @pytest.mark.parametrize(
        "terms",
        [
            {"floor": -7},
            {"floor": 0, "internal": True},
            # But for its type it is as an import opens it.
            {"floor": None, "internal": True, "type_": "asset"},
        ],
    )
    def test_an_account_that_somebody_opened_on_other_terms(self, origin, file, terms):
        target = create_organization("Target")
        open_account(target, "customers:cus_ann:available:EUR", **terms)

        assert attempt(target, file) == "refused"

        assert LedgerAccount.objects.filter(organization_id=target).count() == 1

    @pytest.mark.parametrize(
        ("number", "change", "what"),
        [
            (1, {"format": "kassa.journal.9"}, "Line 1: the format is"),
            (1, {"entries": 99}, "The file: it has 13 lines 'entry', and its header promises 99"),
            (1, {"hash": "0" * 64}, "The file: its last hash is not"),
            (2, {"code": "No Path"}, "Line 2: "),
            (2, {"extra": 1}, "Line 2: "),
            (2, {"account_type": "debt"}, "Line 2: an account of type 'debt'"),
            (15, {"description": "Gift"}, "Line 15: the hash is not"),
            (15, {"metadata": {"x": "y"}}, "Line 15: the hash is not"),
            (15, {"metadata": []}, "Line 15: metadata is an object"),
            (15, {"recorded_at": "2026-11-02T09:30:00Z"}, "Line 15: the hash is not"),
            (15, {"recorded_at": "2026-11-02T09:30:00"}, "Line 15: "),
            (15, {"position": 3}, "Line 15: position 3 follows 1"),
            (15, {"reverses": 7}, "Line 15: position 7 is not there"),
            (15, {"postings": []}, "Line 15: "),
            (15, {"description": "\0"}, "Line 15: "),
            (27, {"position": 99}, "Line 27: metadata 1 of position 99 does not follow"),
            (27, {"number": 2}, "Line 27: metadata 2 of position"),
        ],
    )
    def test_a_wrong_line(self, file, number, change, what):
        rewrite(file, number, change)

        refused(file, what)

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"amount": 1}, "Line 14: .* is at version 1"),
            ({"amount": 10.0}, "Line 14: "),
            ({"amount": 2**63}, "Line 14: "),
            ({"currency": "USD"}, "Line 14: a posting of"),
            ({"account": "customers:nobody:EUR"}, "Line 14: a posting of"),
            ({"version": 2}, "Line 14: .* is at version 1"),
            ({"balance_after": 0}, "Line 14: .* is at version 1"),
        ],
    )
    def test_a_wrong_posting(self, file, change, what):
        line = json.loads(file.read_bytes().splitlines()[13])
        line["postings"][0] |= change
        rewrite(file, 14, line)

        refused(file, what)

    def test_a_transfer_of_more_than_two_postings(self, file):
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        [number] = [at for at, line in enumerate(lines, 1) if line.get("kind") == "swap"]
        rewrite(file, number, {"kind": "transfer"})

        refused(file, f"Line {number}: a transfer has two postings, the debit first")

    def test_a_transfer_whose_credit_is_first(self, file):
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        number = next(at for at, line in enumerate(lines, 1) if line.get("kind") == "transfer")
        rewrite(file, number, {"postings": lines[number - 1]["postings"][::-1]})

        refused(file, f"Line {number}: a transfer has two postings, the debit first")

    def test_a_file_cut_short(self, file):
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-3]))

        refused(file, "The file: it has 11 lines 'entry', and its header promises 13")

    def test_a_file_without_its_header(self, file):
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[1:]))

        refused(file, "Line 1: the file does not begin with its header")

    def test_what_is_no_json(self, file):
        file.write_bytes(file.read_bytes() + b"{}\n")

        refused(file, "Line 28: ")

    def test_a_forged_file_whose_entry_the_engine_refuses(self, file):
        """Its hashes are recomputed by the forger, and two entries have one reference."""
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        for line in lines:
            if line.get("reference"):
                line["reference"] = "one"
        forge(file, lines)
        target = create_organization("Target")

        with pytest.raises(CommandError, match=r"journal_file_refused: Line \d+: This reference"):
            run_import(target, file)

        assert not JournalEntry.objects.filter(organization_id=target).exists()

    def test_a_forged_file_that_undoes_an_entry_twice(self, file):
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        entries = [line for line in lines if line["type"] == "entry"]
        [undone] = [line["reverses"] for line in entries if line["reverses"]]
        entries[-1]["reverses"] = undone
        forge(file, lines)

        refused(file, f"Line .*: position {undone} is not there, or was reversed before")

    def test_a_forged_file_whose_only_entry_the_engine_refuses(self, pair, tmp_path):
        """It moves more than the books can count, which a line by itself may."""
        path = export(pair[0], tmp_path / "journal.jsonl")
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        [number] = [n for n, line in enumerate(lines, 1) if line["type"] == "entry"]
        for posting in lines[number - 1]["postings"]:
            posting["amount"] *= 2**63 - 1
            posting["balance_after"] *= 2**63 - 1
        forge(path, lines)
        target = create_organization("Target")

        with pytest.raises(CommandError, match=rf"journal_file_refused: Line {number}: "):
            run_import(target, path)

        assert not JournalEntry.objects.filter(organization_id=target).exists()


def forge(path, lines) -> None:
    """Write the lines with the hashes that they would have: a chain is no signature."""
    types = {line["code"]: line["account_type"] for line in lines if line["type"] == "account"}
    previous, epoch = b"", datetime(1970, 1, 1, tzinfo=UTC)
    for line in lines:
        if line["type"] != "entry":
            continue
        instants = [
            (datetime.fromisoformat(line[clock]) - epoch) // timedelta(microseconds=1)
            for clock in ("effective_at", "recorded_at")
        ]
        content = [
            "kassa.chain.1", line["position"], line["kind"], line["reference"],
            line["description"], *instants, line["actor"], line["metadata"], line["reverses"],
            [[p["account"], types[p["account"]], p["amount"], p["currency"], p["version"],
              p["balance_after"]] for p in line["postings"]],
        ]  # fmt: skip
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(previous + text.encode()).digest()
        line["hash"] = previous.hex()
    lines[0]["hash"] = previous.hex()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


class TestRecordedTimes:
    @pytest.mark.parametrize(
        ("hours", "what"),
        [
            ([0, 5, 3.9], "it is said to be recorded at .*, and wallets:ann:EUR has seen 20"),
            # A step of an hour, and one more: both are behind the first.
            ([0, 1, 0.5, -0.1], "it is said to be recorded at .*, and wallets:ann:EUR has seen 20"),
            ([0, 1, 24 * 30 + 1.1], "it is said to be recorded at .*, which is to come"),
        ],
    )
    def test_times_that_do_not_follow_versions(self, tmp_path, hours, what):
        """By versions it is found what stood at a time, and so whether a floor of then holds."""
        file = recorded_after(hours, tmp_path)

        refused(file, f"Line .*: {what}")

    def test_but_not_those_of_a_clock_that_was_set_right(self, tmp_path):
        file = recorded_after([0, 1, 0, 0.2, 24 * 30 + 0.9], tmp_path)
        target = create_organization("Target")

        run_import(target, file)

        assert JournalEntry.objects.filter(organization_id=target).count() == 5


def recorded_after(hours, tmp_path):
    """Export transfers of one account, recorded so long after a moment thirty days ago."""
    organization = create_organization("Origin")
    ann = open_account(organization, "wallets:ann:EUR", floor=None)
    bob = open_account(organization, "wallets:bob:EUR", floor=None)
    for number, after in enumerate(hours):
        made = post_transfer(organization, ann, bob, 1, key=f"k-{number}")
        at = clock.now() - timedelta(days=30) + timedelta(hours=after)
        past_the_guards(
            f"UPDATE ledger_journal_entry SET recorded_at = '{at}' WHERE id = '{made.entry_id}'",
            f"UPDATE ledger_posting SET recorded_at = '{at}' WHERE entry_id = '{made.entry_id}'",
        )
    return export(organization, tmp_path / "journal.jsonl")
