from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.banking.formats.checks import check_file
from apps.banking.formats.problems import UnreadableFile
from apps.banking.formats.reading import read_bank_file
from tests.banking.statements import Entry, Made, camt053, camt054

CREDIT = Entry(amount=100_00)
DEBIT = Entry(amount=-40_00)
GOOD = Made(entries=(CREDIT, DEBIT), opening=5_00)


def checked(*made, **options):
    return check_file(read_bank_file(camt053(*made, **options)), name="day.xml")


def refused(data):
    with pytest.raises(UnreadableFile) as refusal:
        read_bank_file(data, name="day.xml")
    return refusal.value.problem


class TestBalances:
    @pytest.mark.parametrize("version", ["02", "04", "06", "08", "10", "13"])
    def test_that_add_up_are_taken_in_every_version(self, version):
        file = checked(GOOD, version=version)

        assert file.problems == ()
        assert [line.amount_minor for line in file.statements[0].lines] == [100_00, -40_00]
        assert file.statements[0].lines[0].is_booked
        assert file.statements[0].lines[0].details[0].counterparty.name == "Ada Lovelace"

    @given(
        amounts=st.lists(st.integers(-(10**11), 10**11).filter(bool), max_size=6),
        off=st.integers(-9, 9),
    )
    def test_are_refused_exactly_when_off(self, amounts, off):
        entries = tuple(Entry(amount=amount) for amount in amounts)

        file = checked(Made(entries=entries, opening=7, closing=7 + sum(amounts) + off))

        differences = [problem.details["difference_minor"] for problem in file.problems]
        assert differences == ([off] if off else [])

    def test_leave_out_what_is_not_booked(self):
        pending = replace(CREDIT, status="PDNG")

        file = checked(Made(entries=(CREDIT, pending)))

        assert file.problems == ()
        assert [line.is_booked for line in file.statements[0].lines] == [True, False]

    def test_may_open_with_the_previous_closing(self):
        assert checked(replace(GOOD, codes=("PRCD", "CLBD"))).problems == ()

    def test_that_are_missing_are_named(self):
        [problem] = checked(replace(GOOD, opening=None, closing=100)).problems

        assert (problem.code, problem.message) == (
            "balance_missing",
            "The opening (OPBD or PRCD) balance is missing.",
        )

    def test_name_every_statement_that_is_off(self):
        bad = replace(GOOD, closing=1)

        file = checked(bad, replace(bad, statement_id="STMT-2"))

        assert [problem.statement for problem in file.problems] == ["STMT-1", "STMT-2"]
        assert {problem.file for problem in file.problems} == {"day.xml"}


class TestCurrencies:
    def test_of_an_entry_are_the_account_s(self):
        foreign = replace(CREDIT, currency="SEK")

        problems = checked(Made(entries=(DEBIT, foreign))).problems

        assert ("currency_mismatch", 2) in [(each.code, each.entry) for each in problems]

    def test_come_from_the_balances_where_the_account_names_none(self):
        assert checked(replace(GOOD, currency=None)).problems == ()

    def test_unknown_to_iso_are_refused(self):
        problem = refused(camt053(Made(entries=(replace(CREDIT, currency="XQQ"),))))

        assert (problem.code, problem.entry, problem.statement) == ("malformed", 1, "STMT-1")


class TestAmounts:
    def entry(self, written):
        return camt053(GOOD).replace(b">100.00<", b">" + written + b"<", 1)

    @pytest.mark.parametrize("written", [b"100.000", b"100.00000", b"+100", b"100.", b" 100.0 "])
    def test_written_otherwise_are_the_same(self, written):
        assert check_file(read_bank_file(self.entry(written))).problems == ()

    def test_finer_than_the_currency_are_refused_with_entry_and_line(self):
        problem = refused(self.entry(b"100.001"))

        assert (problem.code, problem.entry, problem.line) == ("amount_precision", 1, 9)
        assert str(problem).startswith("day.xml, statement STMT-1, entry 1, line 9: 100.001 EUR")

    @pytest.mark.parametrize(
        "written", [b"", b"-1", b"1e3", b"NaN", b"1,00", b".", b"\xd9\xa1", b"0x1"]
    )
    def test_that_are_none_are_refused(self, written):
        assert refused(self.entry(written)).code == "malformed"

    @pytest.mark.parametrize("written", [b"999999999999999999.99", b"100000000000000.01"])
    def test_beyond_what_books_hold_are_refused(self, written):
        assert refused(self.entry(written)).code == "malformed"

    @pytest.mark.parametrize("written", [b"0001-01-01", b"9999-12-31"])
    def test_of_a_day_without_an_instant_are_refused(self, written):
        assert refused(camt053(GOOD).replace(b"2026-03-02", written)).code == "malformed"

    def test_of_a_currency_without_decimals(self):
        yen = Made(entries=(replace(CREDIT, currency="JPY"),), currency="JPY")
        data = camt053(yen).replace(b"0.00<", b"0<")

        assert read_bank_file(data).statements[0].lines[0].amount_minor == 100

    @pytest.mark.parametrize(
        ("right", "wrong"),
        [
            (b"<CdtDbtInd>CRDT</CdtDbtInd><Sts>", b"<CdtDbtInd>PLUS</CdtDbtInd><Sts>"),
            (b"<BookgDt><Dt>2026-03-02", b"<BookgDt><Dt>2026-13-02"),
            (b'<Ntry><Amt Ccy="EUR">100.00</Amt>', b"<Ntry>"),
        ],
    )
    def test_need_a_sign_and_a_day(self, right, wrong):
        data = camt053(GOOD)
        assert right in data

        problem = refused(data.replace(right, wrong, 1))

        assert (problem.code, problem.entry, problem.line) == ("malformed", 1, 9)


class TestSummaries:
    def summary(self, count, total):
        return (
            f"<TxsSummry><TtlCdtNtries><NbOfNtries>{count}</NbOfNtries><Sum>{total}</Sum>"
            "</TtlCdtNtries></TxsSummry>"
        )

    def test_that_fit_are_taken(self):
        assert checked(replace(GOOD, summary=self.summary(1, "100.00"))).problems == ()

    def test_that_do_not_are_refused(self):
        problems = checked(replace(GOOD, summary=self.summary(2, "100.01"))).problems

        assert [problem.code for problem in problems] == ["summary_mismatch"] * 2

    def test_only_warn_in_a_notification(self):
        made = replace(GOOD, summary=self.summary(2, "100.00"))

        file = check_file(read_bank_file(camt054(made)))

        assert file.problems == ()
        assert [warning.code for warning in file.warnings] == ["summary_mismatch"]


class TestPages:
    first = Made(entries=(CREDIT,), opening=0, page=(1, False), codes=("OPBD", "ITBD"))
    last = Made(entries=(DEBIT,), opening=100_00, page=(2, True), codes=("ITBD", "CLBD"))

    def test_that_are_all_there_make_one_statement(self):
        [statement] = checked(self.last, self.first).statements

        assert (statement.opening.amount_minor, statement.closing.amount_minor) == (0, 60_00)
        assert [(line.position, line.amount_minor) for line in statement.lines] == [
            (1, 100_00),
            (2, -40_00),
        ]

    def test_alone_wait(self):
        file = checked(self.first)

        assert (file.statements, file.problems) == ((), ())
        assert [page.page_number for page in file.waiting] == [1]

    def test_that_do_not_chain_are_refused(self):
        problems = checked(self.first, replace(self.last, opening=99_00)).problems

        assert [problem.code for problem in problems] == ["page_mismatch", "balance_mismatch"]
