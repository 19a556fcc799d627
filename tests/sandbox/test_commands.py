from __future__ import annotations

import ast
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from tests.sandbox.conftest import OURS, ROOT, answers_of, assert_valid, payment_file, run_sandbox


def statements(answers):
    return [each for each in answers if each["kind"] == "camt.053"]


def assert_adds_up(tree):
    """Opening plus the signed lines is the closing, and the summary says the same."""
    signs = {"CRDT": 1, "DBIT": -1}
    balances = [
        Decimal(amount) * signs[sign]
        for amount, sign in zip(tree.all("Bal/Amt"), tree.all("Bal/CdtDbtInd"), strict=True)
    ]
    lines = [
        Decimal(amount) * signs[sign]
        for amount, sign in zip(tree.all("Ntry/Amt"), tree.all("Ntry/CdtDbtInd"), strict=True)
    ]

    assert balances[0] + sum(lines) == balances[1]
    assert int(tree.one("TtlNtries/NbOfNtries")) == len(lines)
    assert Decimal(tree.one("TtlNtries/Sum")) == sum(abs(line) for line in lines)


class TestAnswer:
    def answer(self, database, tmp_path, *arguments, **content):
        path = tmp_path / "pain.001.xml"
        path.write_bytes(payment_file(**content))
        return run_sandbox(database, "answer", path, "--out", tmp_path / "answers", *arguments)

    def test_accepts_and_books_a_file(self, database, tmp_path):
        answers = answers_of(self.answer(database, tmp_path, "--opening", "1000.00"))

        assert [each["kind"] for each in answers] == ["pain.002", "camt.054", "camt.053"]
        report, notification, statement = (each["tree"] for each in answers)
        assert report.one("OrgnlMsgId") == "MSG1"
        assert report.one("GrpSts") == "ACTC"
        assert report.all("TxSts") == []
        assert statement.all("EndToEndId") == ["E1", "E2"]
        assert notification.all("Ntry/AcctSvcrRef") == statement.all("Ntry/AcctSvcrRef")
        assert (answers[2]["opening"], answers[2]["closing"]) == ("1000.00", "874.50")
        assert answers[2]["date"] == "2026-12-04"
        assert_adds_up(statement)

    def test_writes_what_the_schemas_allow(self, database, tmp_path):
        answers = answers_of(
            self.answer(
                database, tmp_path, "--reject", "E1=AC01", "--return", "E2=AC04:0.50", batch="true"
            )
        )

        report, *others = (each["tree"] for each in answers)
        assert_valid(
            report, "pain.002.001.11.xsd", namespace=(b"pain.002.001.10", b"pain.002.001.11")
        )
        for each, answer in zip(others, answers[1:], strict=True):
            assert_valid(each, f"{answer['kind']}.001.08.xsd")

    def test_rejects_one_transfer_and_books_the_other(self, database, tmp_path):
        answers = answers_of(self.answer(database, tmp_path, "--reject", "E1=AC01"))

        report, statement = answers[0]["tree"], statements(answers)[0]["tree"]
        assert report.one("GrpSts") == "PART"
        assert report.one("PmtInfSts") == "PART"
        assert report.one("OrgnlEndToEndId") == "E1"
        assert report.one("TxInfAndSts/StsRsnInf/Rsn/Cd") == "AC01"
        assert statement.all("EndToEndId") == ["E2"]

    @pytest.mark.parametrize(
        ("option", "path"),
        [("--reject-group", "OrgnlGrpInfAndSts"), ("--reject-payment", "OrgnlPmtInfAndSts")],
    )
    def test_rejects_all_and_books_nothing(self, database, tmp_path, option, path):
        [answer] = answers_of(self.answer(database, tmp_path, option, "AM04"))

        assert answer["tree"].one("GrpSts") == "RJCT"
        assert answer["tree"].one(f"{path}/StsRsnInf/Rsn/Cd") == "AM04"

    def test_rejects_a_file_whose_sum_is_wrong(self, database, tmp_path):
        [answer] = answers_of(self.answer(database, tmp_path, total="1.00"))

        assert answer["tree"].one("StsRsnInf/Rsn/Cd") == "AM10"

    def test_returns_a_transfer_on_the_next_open_day(self, database, tmp_path):
        # 2026-12-04 is a Friday.
        answers = answers_of(
            self.answer(database, tmp_path, "--opening", "500", "--return", "E1=AC04")
        )

        first, second = statements(answers)
        assert (first["closing"], second["opening"]) == ("374.50", "374.50")
        assert (second["closing"], second["date"]) == ("474.50", "2026-12-07")
        tree = second["tree"]
        assert tree.one("EndToEndId") == "E1"
        assert tree.one("Ntry/CdtDbtInd") == "CRDT"
        assert tree.one("RvslInd") == "true"
        assert tree.one("RtrInf/Rsn/Cd") == "AC04"
        assert tree.one("Ntry/BkTxCd/Domn/Fmly/SubFmlyCd") == "RRTN"
        assert_adds_up(tree)

    def test_returns_less_a_fee_and_twice(self, database, tmp_path):
        answers = answers_of(
            self.answer(database, tmp_path, "--return", "E1=AC04:0.50", "--return-twice")
        )

        tree = statements(answers)[1]["tree"]
        assert tree.all("Ntry/Amt") == ["99.50", "99.50"]
        assert tree.all("Ntry/CdtDbtInd") == ["CRDT", "CRDT"]
        assert len(set(tree.all("Ntry/AcctSvcrRef"))) == 2

    def test_books_a_batch_as_one_line_when_asked(self, database, tmp_path):
        answers = answers_of(self.answer(database, tmp_path, batch="true"))

        tree = statements(answers)[0]["tree"]
        assert tree.all("Ntry/Amt") == ["125.50"]
        assert tree.all("TxDtls/Amt") == ["100.00", "25.50"]
        assert tree.one("Btch/PmtInfId") == "MSG1-1"

    def test_knows_a_message_that_came_before(self, database, tmp_path):
        self.answer(database, tmp_path)

        [answer] = answers_of(self.answer(database, tmp_path))

        assert answer["tree"].one("GrpSts") == "RJCT"
        assert answer["tree"].one("StsRsnInf/Rsn/Cd") == "DU01"

    def test_goes_on_from_the_last_closing_balance(self, database, tmp_path):
        self.answer(database, tmp_path, "--opening", "1000.00")

        answers = answers_of(self.answer(database, tmp_path, message_id="MSG2"))

        assert statements(answers)[0]["opening"] == "874.50"

    def test_never_books_before_a_day_that_has_a_statement(self, database, tmp_path):
        self.answer(database, tmp_path, day="2026-12-10")

        answers = answers_of(self.answer(database, tmp_path, message_id="M2", day="2026-12-04"))

        assert statements(answers)[0]["date"] == "2026-12-10"

    def test_writes_the_older_report_when_asked(self, database, tmp_path):
        answers = answers_of(self.answer(database, tmp_path, "--pain002-version", "03"))

        assert b"pain.002.001.03" in answers[0]["tree"].content

    def test_refuses_a_transfer_that_the_file_has_not(self, database, tmp_path):
        completed = self.answer(database, tmp_path, "--reject", "E9=AC01")

        assert completed.returncode == 2
        assert "E9" in completed.stderr
        # Nothing was kept: the same file is new to the bank afterwards.
        assert len(answers_of(self.answer(database, tmp_path))) == 3

    @pytest.mark.parametrize(
        "content",
        [
            b"not xml",
            b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            b"<Document/>",
            b"<Document><CstmrCdtTrfInitn/></Document>",
        ],
    )
    def test_refuses_what_is_no_payment_file(self, database, tmp_path, content):
        path = tmp_path / "bad.xml"
        path.write_bytes(content)

        completed = run_sandbox(database, "answer", path, "--out", tmp_path)

        assert completed.returncode == 2
        assert completed.stderr.startswith("sandbox: ")


class TestStatement:
    def statement(self, database, tmp_path, *arguments):
        out = tmp_path / "statement.xml"
        command = ("statement", "--iban", OURS, "--owner", "Example Ltd", "--out", out)
        [answer] = answers_of(run_sandbox(database, *command, *arguments))
        return answer

    def test_brings_credits_with_and_without_a_reference(self, database, tmp_path):
        answer = self.statement(
            database,
            tmp_path,
            *("--opening", "1000.00", "--date", "2026-11-20"),
            *("--credit", "RF18539007547034:125.00:Ada Lovelace:FI2112345600000785"),
            *("--credit", "thanks for lunch:7.50:Bob", "--debit", "rent:200.00:Landlord"),
        )

        tree = answer["tree"]
        assert (answer["opening"], answer["closing"]) == ("1000.00", "932.50")
        assert tree.one("Strd/CdtrRefInf/Ref") == "RF18539007547034"
        assert tree.all("RmtInf/Ustrd") == ["thanks for lunch", "rent"]
        assert tree.all("Dbtr/Pty/Nm") == ["Ada Lovelace", "Bob", "Example Ltd"]
        assert_adds_up(tree)
        assert_valid(tree, "camt.053.001.08.xsd")

    def test_chains_statements_of_one_account(self, database, tmp_path):
        first = self.statement(database, tmp_path, "--opening", "-5", "--credit", "a:10.00:A")
        second = self.statement(database, tmp_path, "--credit", "b:1.00:B")

        assert (first["opening"], first["closing"]) == ("-5.00", "5.00")
        assert (second["opening"], second["closing"]) == ("5.00", "6.00")

    def test_refuses_an_amount_finer_than_the_currency(self, database, tmp_path):
        completed = run_sandbox(
            database,
            *("statement", "--iban", OURS, "--currency", "JPY", "--out", tmp_path),
            *("--credit", "a:1.50:A"),
        )

        assert completed.returncode == 2
        assert "more decimals" in completed.stderr


def test_imports_nothing_but_the_standard_library():
    for path in (ROOT / "sandbox").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                assert top == "sandbox" or top in sys.stdlib_module_names, f"{Path(path)}: {name}"
