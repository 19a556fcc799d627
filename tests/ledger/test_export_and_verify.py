"""The books proved: by our own recount, and by beancount, which knows nothing of us."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import pytest
from beancount import loader
from beancount.core import data, realization
from django.core.management import call_command
from django.db import connection

from apps.core.errors import InvariantBroken
from apps.core.ids import encode_id, new_id
from apps.core.money import decimal_text, exponent
from apps.ledger import operations, queries
from apps.ledger.formats import journal
from apps.ledger.formats.beancount import account_name
from apps.ledger.formats.hledger import account_name as hledger_name
from apps.ledger.formats.tables import escape_formula
from apps.ledger.management.commands import export_journal
from apps.ledger.models import ChainLink, JournalEntry, Posting
from apps.ledger.rules import CaptureHold, Leg, PlaceHold, PostEntry
from tests.ledger.exchanges import exchange
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
from tests.ledger.tampering import corrupt
from tests.ledger.threads import Asking
from tests.support import ROOT

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    for currency, amount in (("EUR", 100_50), ("JPY", 9_000), ("KWD", 7_125)):
        ann = open_account(organization, f"customers:cus_ann:available:{currency}")
        bob = open_account(organization, f"customers:cus_bob:available:{currency}")
        fund(organization, ann, amount, currency=currency)
        post_transfer(
            organization, ann, bob, amount // 3, key=currency, currency=currency,
            description='Rent "June" \\ =1+1', reference=f"ref-{currency}",
        )  # fmt: skip
    return organization


HLEDGER_OTHER = re.compile(
    r"|; Kassa|decimal-mark \.|commodity [0-9]+\.[0-9]* [A-Z]{3}"
    r"|account [a-z]+(:[a-zA-Z0-9_]+)+  ; type: [ALERX]|    ; reference: [^;]*"
)
HLEDGER_ENTRY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} \* (\(je_[0-9a-z]{26}\) [^;]*|balances)")
HLEDGER_POSTING = re.compile(
    r"    (?P<name>[a-z]+(:[a-zA-Z0-9_]+)+)  (?P<amount>-?[0-9]+(\.[0-9]+)?) (?P<currency>[A-Z]{3})"
    r"( = -?[0-9]+(\.[0-9]+)? [A-Z]{3})?"
)


def hledger(path, *arguments: str) -> str:
    program = shutil.which("hledger")
    if program is None:
        pytest.skip("no hledger here (apt-get install hledger)")
    environment = os.environ | {"LANG": "C.UTF-8"}
    command = [program, "-f", str(path), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout


def assert_beancount_agrees(organization, text: str) -> int:
    """Have beancount add up a journal, account by account; return how many entries it read."""
    entries, errors, _ = loader.load_string(text)
    assert errors == []
    root = realization.realize(entries)
    totals: dict[str, Decimal] = {}
    for view in queries.list_balances(organization_id=organization):
        real = realization.get(root, account_name(view.code, view.type))
        net = view.posted if view.type in {"asset", "expense"} else -view.posted
        expected = Decimal(net).scaleb(-exponent(view.currency))
        number = real.balance.get_currency_units(view.currency).number
        assert number == expected, view.code
        totals[view.currency] = totals.get(view.currency, Decimal(0)) + number
    assert not any(totals.values())
    return sum(isinstance(entry, data.Transaction) for entry in entries)


def export(organization, format_: str, tmp_path) -> str:
    path = tmp_path / f"journal.{format_}"
    call_command(
        "export_journal", organization=encode_id("org", organization), format=format_, output=path
    )
    return path.read_text(encoding="utf-8")


class TestExportJournal:
    def test_beancount_finds_our_balances_to_the_unit(self, books, tmp_path):
        text = export(books, "beancount", tmp_path)

        assert_beancount_agrees(books, text)

    def test_beancount_agrees_over_every_type_of_account_and_every_act(self, tmp_path):
        organization = create_organization()
        till, ann, capital, earned, spent = (
            open_account(organization, f"{branch}:b_1:x2:EUR", type_=type_, floor=None)
            for branch, type_ in (
                ("tills", "asset"), ("wallets", "liability"), ("capital", "equity"),
                ("earnings", "income"), ("spendings", "expense"),
            )
        )  # fmt: skip
        dollars, dinars = (open_account(organization, f"wallets:b_1:{c}") for c in ("USD", "KWD"))
        fund(organization, ann, 10**13 - 1)
        fund(organization, dinars, 1_001, currency="KWD")
        hold = PlaceHold(id=new_id(), debit_account_id=ann, credit_account_id=earned,
                         amount_minor=9_99, currency="EUR", multi_capture=True)  # fmt: skip
        entry = PostEntry(
            id=new_id(), currency="EUR", kind="x",
            legs=(Leg(till, 3), Leg(ann, 10_00), Leg(capital, -5_01), Leg(earned, -7_77),
                  Leg(spent, 2_75), Leg(dinars, 1, "KWD"),
                  Leg(open_account(organization, "tills:KWD", type_="asset", floor=None), -1,
                      "KWD")),
        )  # fmt: skip
        post(
            organization, entry, hold,
            CaptureHold(hold_id=hold.id, entry_id=new_id(), kind="x", amount_minor=1),
            CaptureHold(hold_id=hold.id, entry_id=new_id(), kind="x", amount_minor=9_00),
            move(till, spent, 12_34, effective_at=datetime(1970, 1, 1, tzinfo=UTC)),
            move(earned, capital, 1, effective_at=datetime(2031, 2, 28, 23, 59, tzinfo=UTC)),
        )  # fmt: skip
        fx = exchange(organization, ann, dollars, 33_33)
        operations.reverse_fx_transfer(
            organization_id=organization, fx_transfer_id=fx, at="now", reason="",
            idempotency_key="undo", actor=ACTOR, now=NOW,
        )  # fmt: skip
        exchange(organization, ann, dollars, 1_01, key="again")

        text = export(organization, "beancount", tmp_path)

        assert assert_beancount_agrees(organization, text) == JournalEntry.objects.count() == 13
        # Nothing of it agrees by being nothing.
        nets = {view.code.partition(":")[0]: view.posted
                for view in queries.list_balances(organization_id=organization)}  # fmt: skip
        assert all(nets[name] for name in ("tills", "capital", "earnings", "spendings"))

    def test_beancount_agrees_where_accounts_stand_above_others(self, books, tmp_path):
        """Its assertion of an account is of all below it too, in the account's own currency."""
        for amount, code in enumerate(
            ("cards", "cards:a", "cards:a:spare", "cards:a:spare:EUR", "cards:a:USD", "cards:ab"), 7
        ):
            account = open_account(books, code)
            fund(books, account, amount, currency="USD" if code.endswith("USD") else "EUR")

        text = export(books, "beancount", tmp_path)

        assert_beancount_agrees(books, text)
        assert " balance Liabilities:Cards  -0.46 ~ 0 EUR\n" in text
        assert " balance Liabilities:Cards:A  -0.27 ~ 0 EUR\n" in text
        assert " balance Liabilities:Cards:Ab  -0.12 ~ 0 EUR\n" in text

    @pytest.mark.parametrize("format_", ["beancount", "jsonl"])
    def test_is_of_one_instant_whatever_is_posted_while_it_is_written(
        self, books, tmp_path, monkeypatch, format_
    ):
        before = export(books, format_, tmp_path)
        ids = queries.account_ids(
            organization_id=books,
            codes=["customers:cus_ann:available:EUR", "customers:cus_bob:available:EUR"],
        )

        class Interrupted(io.StringIO):
            """A file at whose first line somebody posts."""

            def write(self, text: str) -> int:
                if not self.tell():
                    posting = Asking(partial(post_transfer, books, *ids.values(), 5, key="late"))
                    assert posting.ended().answer.entry_id
                return super().write(text)

        file = Interrupted()
        monkeypatch.setattr(sys, "stdout", file)
        call_command("export_journal", organization=encode_id("org", books), format=format_)
        monkeypatch.undo()

        assert file.getvalue() == before
        assert JournalEntry.objects.count() == 7
        after = export(books, format_, tmp_path)
        assert after != before
        if format_ == "beancount":
            assert_beancount_agrees(books, after)

    def test_beancount_sees_an_amount_that_was_altered(self, books, tmp_path):
        text = export(books, "beancount", tmp_path).replace("33.50 EUR", "33.51 EUR", 1)

        _, errors, _ = loader.load_string(text)

        assert errors

    def test_beancount_sees_a_balance_that_is_off_by_one_unit(self, books, tmp_path):
        text = export(books, "beancount", tmp_path).replace("67.00 ~", "67.01 ~")

        _, errors, _ = loader.load_string(text)

        assert [type(error).__name__ for error in errors] == ["BalanceError"]

    def test_beancount_takes_entries_of_any_year_in_any_order(self, books, tmp_path):
        ids = queries.account_ids(
            organization_id=books,
            codes=["customers:cus_ann:available:EUR", "customers:cus_bob:available:EUR"],
        )
        for year in (2199, 1901, 2026):
            post_transfer(
                books, *ids.values(), 1, key=f"year-{year}",
                effective_at=datetime(year, 12, 31, 23, tzinfo=UTC), force=True,
            )  # fmt: skip

        _, errors, _ = loader.load_string(export(books, "beancount", tmp_path))

        assert errors == []

    def test_hledger_finds_our_balances_to_the_unit(self, books, tmp_path):
        text = export(books, "hledger", tmp_path)

        shown = hledger(tmp_path / "journal.hledger", "balance", "--flat", "-O", "csv", "-E")

        assert "balances" in text
        found = {row["account"]: row["balance"] for row in csv.DictReader(io.StringIO(shown))}
        for view in queries.list_balances(organization_id=books):
            net = view.posted if view.type in {"asset", "expense"} else -view.posted
            expected = decimal_text(net, view.currency)
            assert found[hledger_name(view.code, view.type)] == f"{expected} {view.currency}"

    @pytest.mark.parametrize(
        ("was", "altered"), [("  33.50 EUR", "  33.51 EUR"), ("= -67.00 EUR", "= -67.01 EUR")]
    )
    def test_hledger_sees_what_was_altered(self, books, tmp_path, was, altered):
        text = export(books, "hledger", tmp_path)
        assert was in text
        (tmp_path / "journal.hledger").write_text(text.replace(was, altered, 1))

        with pytest.raises(subprocess.CalledProcessError):
            hledger(tmp_path / "journal.hledger", "check", "--strict")

    def test_hledger_is_written_by_its_grammar(self, books, tmp_path):
        """Each line is a directive, a transaction, a comment or a posting; sums are zero."""
        text = export(books, "hledger", tmp_path)

        names = {hledger_name(v.code, v.type) for v in queries.list_balances(organization_id=books)}
        sums: dict[str, Decimal] = {}
        for line in text.splitlines():
            if posting := HLEDGER_POSTING.fullmatch(line):
                assert posting["name"] in names
                sums[posting["currency"]] = sums.get(posting["currency"], 0) + Decimal(
                    posting["amount"]
                )
            elif HLEDGER_ENTRY.fullmatch(line):
                assert not any(sums.values())
            else:
                assert HLEDGER_OTHER.fullmatch(line), line
        assert set(sums) == {"EUR", "JPY", "KWD"}
        assert not any(sums.values())

    def test_csv_reads_back_and_runs_no_formula(self, books, tmp_path):
        rows = list(csv.DictReader(io.StringIO(export(books, "csv", tmp_path))))

        assert len(rows) == Posting.objects.count()
        assert sum(int(row["amount_minor"]) for row in rows) == 0
        assert escape_formula("=1+1") == "'=1+1"
        for text in ("@SUM", ' "+1', "\u00a0=1", "\t1", "\uff1d1", '"\u2003-1'):
            assert escape_formula(text) == f"'{text}"
        for text in ("Rent", "1=1", " a-b", ""):
            assert escape_formula(text) == text

    def test_json_lines_hold_every_entry_in_the_order_of_the_chain(self, books, tmp_path):
        lines = [json.loads(line) for line in export(books, "jsonl", tmp_path).splitlines()]

        entries = [line for line in lines if line["type"] == "entry"]
        assert [line["position"] for line in entries] == list(range(1, 7))
        assert len(entries) == JournalEntry.objects.count()
        assert all(sum(p["amount"] for p in line["postings"]) == 0 for line in entries)
        status = queries.chain_status(organization_id=books)
        assert entries[-1]["hash"] == lines[0]["hash"] == status.hash.hex()

    def test_that_fails_half_way_leaves_the_file_of_before(self, books, tmp_path, monkeypatch):
        path, written = tmp_path / "journal.jsonl", []
        before = export(books, "jsonl", tmp_path)
        write_line = journal.write

        def told(lines):
            for line in write_line(lines):
                written.append(line)
                yield line

        monkeypatch.setattr(journal, "write", told)
        gone = ChainLink.objects.get(organization_id=books, position=5).entry_id
        corrupt("DELETE FROM ledger_journal_entry WHERE id = %s", gone)

        with pytest.raises(InvariantBroken, match=encode_id("je", gone)):
            export(books, "jsonl", tmp_path)

        assert path.read_text(encoding="utf-8") == before
        # It did fail half-way, and that is gone.
        assert before.startswith("".join(written))
        assert '"position":4' in written[-1]
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("format_", ["beancount", "jsonl"])
    def test_says_how_far_it_is_beside_the_journal(self, books, monkeypatch, capsys, format_):
        monkeypatch.setattr(export_journal, "PROGRESS", 5)

        call_command("export_journal", organization=encode_id("org", books), format=format_)

        said = capsys.readouterr()
        counts = [int(line.split()[0]) for line in said.err.splitlines()]
        assert counts == sorted(set(counts))
        assert 0 < counts[-1] <= len(said.out.splitlines())
        assert "so far" not in said.out

    def test_two_at_once_to_one_name_are_each_whole(self, books, tmp_path):
        path = tmp_path / "journal.jsonl"
        whole = export(books, "jsonl", tmp_path)
        path.unlink()

        asking = [Asking(partial(export, books, "jsonl", tmp_path)) for _ in range(2)]

        assert [one.ended().fault for one in asking] == [None, None]
        assert path.read_text(encoding="utf-8") == whole
        assert list(tmp_path.iterdir()) == [path]

    def test_that_nobody_reads_to_the_end_says_so_in_a_word(self, books):
        command = shlex.join(
            [sys.executable, "manage.py", "export_journal", "--organization",
             encode_id("org", books), "--format=jsonl"]
        )  # fmt: skip
        environment = {"KASSA_TEST_DB_NAME": connection.settings_dict["NAME"]}
        environment |= {"DJANGO_SETTINGS_MODULE": "config.settings.test", "KASSA_IN_TEST": "1"}

        done = subprocess.run(
            ["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"],
            check=False, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment,
        )  # fmt: skip

        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "CommandError: Standard output: nobody reads it any more.\n"


def test_the_trial_balance_is_zero_per_currency(books):
    totals = queries.trial_balance_totals(queries.trial_balance(organization_id=books))

    assert totals == {"EUR": (100_50, 100_50), "JPY": (9_000, 9_000), "KWD": (7_125, 7_125)}
    [bank] = queries.account_ids(organization_id=books, codes=["bank:ba_1:KWD"]).values()
    assert balance(books, bank).posted == 7_125
