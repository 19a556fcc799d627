from datetime import date

import pytest

from apps.banking.formats import references
from apps.banking.formats.checks import check_file
from apps.banking.formats.problems import UnreadableFile
from apps.banking.formats.reading import read_bank_file
from apps.banking.formats.values import CamtFile, StatusReport
from tests.banking.real_files import FOLDER, needs_real_files, real_file

pytestmark = [needs_real_files, pytest.mark.bank_files]


def read(name):
    return read_bank_file(real_file(name), name=name)


def checked(name):
    return check_file(read(name), name=name)


class TestStatements:
    def test_of_nordea_are_read_to_the_unit(self):
        [statement] = checked("camt053/nordea-example.xml").statements

        assert statement.account.identification == "FI8529501800030574"
        assert (statement.opening.amount_minor, statement.closing.amount_minor) == (20050, 880050)
        assert [line.amount_minor for line in statement.lines] == [
            1000000, 10050, -70050, -30000, -40000, -10000,
        ]  # fmt: skip
        third = statement.lines[2]
        assert str(third.bank_code) == "PMNT/ICDT/ESCT"
        assert third.account_servicer_ref == "1905082588CEAG0003"
        assert third.details[0].references.end_to_end_id == "20190508-E123456"
        assert third.details[0].creditor_references == ("RF332348236",)
        assert statement.lines[1].details[0].references.end_to_end_id is None

    def test_two_in_one_file_keep_their_order(self):
        first, second = checked("camt053/multi-statement-v2.xml").statements

        assert (first.closing.amount_minor, second.opening.amount_minor) == (2700, 2700)
        assert (first.copy_indicator, first.sequence) == ("CODU", "12312")
        assert second.lines[0].amount_minor == -700
        assert second.lines[0].details[0].counterparty.name == "Company Name 2"

    def test_of_finland_have_units_only_where_details_add_up(self):
        [statement] = checked("camt053/finland-sample.xml").statements

        assert [len(line.units) for line in statement.lines] == [1, 0, 3, 1, 1, 1, 1, 1, 1, 2]
        assert statement.lines[1].batch.payment_information_id == "CustRefForPmtBatch"
        assert statement.lines[6].value_date == date(2009, 10, 30)
        assert statement.lines[7].details[0].counterparty.bic == "BOFSGB22"

    def test_of_postfinance_off_by_1537_francs_are_refused(self):
        [problem] = checked("camt053/postfinance-2020-11-25.xml").problems

        assert (problem.code, problem.line) == ("balance_mismatch", 41)
        assert problem.details == {"difference_minor": -153700, "currency": "CHF"}
        assert "off by 1,537.00 CHF" in problem.message
        assert str(problem).startswith(
            "camt053/postfinance-2020-11-25.xml, statement 20201124375204229003973, line 41: "
        )

    def test_of_postfinance_take_the_entry_s_sign_with_a_warning(self):
        [statement] = read("camt053/postfinance-2020-11-25.xml").statements
        line = statement.lines[1]

        assert (line.amount_minor, line.units[0].amount_minor) == (-7770, -7770)
        assert line.warnings == ("Detail 1 says CRDT; the entry's sign was taken.",)

    def test_closing_in_another_currency_are_refused(self):
        [problem] = checked("camt053/single-entry-v8.xml").problems

        assert (problem.code, problem.line) == ("currency_mismatch", 74)
        assert "SEK" in problem.message

    def test_of_version_8_are_read_though_refused(self):
        [statement] = read("camt053/single-entry-v8.xml").statements
        [line] = statement.lines

        assert (line.status, line.booking_date) == ("BOOK", date(2014, 12, 31))
        assert line.details[0].amount_minor is None
        assert line.units == ()
        assert line.details[0].counterparty.name == "NAME NAME"
        assert (statement.page_number, statement.is_last_page) == (2, True)


class TestNotifications:
    def test_of_finland_only_warn_of_their_summary(self):
        checked_file = checked("camt054/finland-sample.xml")
        [statement] = checked_file.statements

        assert checked_file.problems == ()
        assert [line.status for line in statement.lines] == ["BOOK"] * 5 + ["INFO"]
        assert sum(line.amount_minor for line in statement.booked) == 26995
        assert statement.lines[5].is_return

    def test_carry_padded_references_that_are_valid_once_trimmed(self):
        [statement] = read("camt054/finland-sample.xml").statements
        detail = statement.lines[2].details[0]

        found = references.places(detail.creditor_references, detail.texts)

        assert found == (("RF7812345",), ("RF0812344",))
        assert references.choose(found, {"RF7812345"}).reason == "ambiguous"

    def test_of_a_return_say_why(self):
        [statement] = read("camt054/postfinance-returns-2020-11-25.xml").statements
        [line] = statement.lines

        assert line.is_return
        assert line.amount_minor == 50000
        assert line.details[0].return_reason.code == "AC01"
        assert line.details[0].references.end_to_end_id == "EndToEndId-001-03-04"


class TestStatusReports:
    def test_of_a_whole_group(self):
        report = read("pain002/nordea-group-reject.xml")

        assert (report.original_message_id, report.group_status) == (
            "MSGID-PS-TEST-0708-01",
            "RJCT",
        )
        assert [(reason.code, reason.text) for reason in report.reasons] == [
            ("DU01", "ISO Duplicate Message ID")
        ]

    def test_of_single_transactions(self):
        report = read("pain002/nordea-transaction-reject.xml")

        [payment] = report.payments
        assert (payment.status, payment.payment_information_id) == (
            "RJCT",
            "PMTINFID-950-TEST2-2807-01",
        )
        assert [(each.end_to_end_id, each.reasons[0].code) for each in payment.transactions] == [
            ("ENDTOENDID-950-TEST2-2807-02", "NARR"),
            ("ENDTOENDID-950-TEST2-2807-01", "NARR"),
        ]

    def test_in_the_swiss_namespace(self):
        report = read("pain002/postfinance-2018-03-15.xml")

        assert (report.original_message_id, report.group_status) == ("MsgId-001", "ACTC")


def test_every_real_file_is_read_or_refused_with_its_place():
    names = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*.xml"))
    assert names

    kinds = {name: read(name) for name in names}

    assert {type(file) for file in kinds.values()} == {CamtFile, StatusReport}
    refused = {
        name
        for name, file in kinds.items()
        if isinstance(file, CamtFile) and checked(name).problems
    }
    assert refused == {"camt053/postfinance-2020-11-25.xml", "camt053/single-entry-v8.xml"}


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9, 0.999])
def test_a_real_file_cut_short_is_refused(cut):
    data = real_file("camt053/nordea-example.xml")

    with pytest.raises(UnreadableFile) as refusal:
        read_bank_file(data[: int(len(data) * cut)], name="cut.xml")

    assert refusal.value.problem.code == "malformed_xml"
    assert refusal.value.problem.line > 0
