import json
from dataclasses import replace
from datetime import date

import pytest
from django.db import IntegrityError, connection

from apps.banking import operations, queries
from apps.banking.formats import _nodes
from apps.banking.models import (
    BankFile,
    BankFileWork,
    BankLine,
    BankLineDetail,
    BankLineStatus,
    BankStatement,
    LineQueue,
)
from apps.banking.tasks import import_due
from apps.core import encryption
from apps.core.models import OutboxEvent
from tests.banking.factories import (
    ACTOR,
    NOW,
    create_bank_account,
    create_organization,
    import_file,
)
from tests.banking.real_files import needs_real_files, real_file
from tests.banking.statements import Entry, Made, camt053, camt054
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

CREDIT, DEBIT = Entry(amount=100_00), Entry(amount=-40_00)
DAY_1 = Made(entries=(CREDIT, DEBIT), opening=5_00, day=date(2026, 3, 2))
DOLLARS = Made(
    entries=(Entry(amount=100_00, currency="USD"), Entry(amount=-40_00, currency="USD")),
    opening=5_00,
    day=date(2026, 3, 2),
    currency="USD",
)
DAY_2 = Made(
    entries=(Entry(amount=7_00),),
    opening=65_00,
    statement_id="STMT-2",
    sequence="2",
    day=date(2026, 3, 3),
)
DAY_3 = Made(
    entries=(Entry(amount=-2_00),),
    opening=72_00,
    statement_id="STMT-3",
    sequence="3",
    day=date(2026, 3, 4),
)


@pytest.fixture
def organization_id():
    return create_organization()


@pytest.fixture
def account(organization_id):
    return create_bank_account(organization_id)


def counts():
    return BankStatement.objects.count(), BankLine.objects.count(), BankLineStatus.objects.count()


def chains():
    rows = BankStatement.objects.order_by("closing_date", "id")
    return [(row.statement_id, row.chain, row.state) for row in rows]


class TestAFile:
    def test_that_adds_up_is_taken(self, organization_id, account):
        file = import_file(organization_id, camt053(DAY_1))

        assert (file.state, file.kind, file.reason_code) == ("imported", "camt.053", "")
        assert [
            (line.amount_minor, line.occurrence) for line in BankLine.objects.order_by("id")
        ] == [
            (100_00, 1),
            (-40_00, 1),
        ]
        assert chains() == [("STMT-1", "first", "imported")]
        assert LineQueue.objects.get().state == "pending"
        [event] = OutboxEvent.objects.filter(aggregate_type="bank_file")
        assert (event.type, event.data["new_lines"]) == ("bank_file.imported", 2)

    def test_again_changes_nothing(self, organization_id, account):
        first = import_file(organization_id, camt053(DAY_1))

        again = import_file(organization_id, camt053(DAY_1), name="other.xml")

        assert again.id == first.id
        assert again.name == "day.xml"
        assert counts() == (1, 2, 2)
        assert OutboxEvent.objects.filter(aggregate_type="bank_file").count() == 1

    def test_twice_at_once_is_taken_once(self, organization_id, account):
        content = camt053(DAY_1)

        files = race(*[lambda: import_file(organization_id, content)] * 4)

        assert len({file.id for file in files}) == 1
        assert counts() == (1, 2, 2)
        assert BankFile.objects.get().state == "imported"

    def test_of_other_bytes_with_the_same_statement_is_known(self, organization_id, account):
        import_file(organization_id, camt053(DAY_1))

        file = import_file(organization_id, camt053(DAY_1, message_id="MSG-2"))

        assert file.state == "imported"
        assert [row.state for row in BankStatement.objects.order_by("id")] == ["imported", "known"]
        assert BankLine.objects.count() == 2

    def test_that_is_off_leaves_its_bytes_and_the_reason(self, organization_id, account):
        content = camt053(replace(DAY_1, closing=1))

        file = import_file(organization_id, content)

        assert (file.state, file.reason_code) == ("refused", "balance_mismatch")
        assert file.reason.startswith(
            "day.xml, statement STMT-1, line 8: The closing balance is off"
        )
        assert file.problems[0]["difference_minor"] == 1 - 65_00
        assert counts() == (0, 0, 0)
        assert LineQueue.objects.get().state == "done"
        assert (
            queries.get_bank_file_content(organization_id=organization_id, bank_file_id=file.id)
            == content
        )
        [event] = OutboxEvent.objects.filter(aggregate_type="bank_file")
        assert (event.type, event.data["reason"]) == ("bank_file.refused", "balance_mismatch")

    def test_with_one_bad_statement_is_refused_whole(self, organization_id, account):
        file = import_file(organization_id, camt053(DAY_1, replace(DAY_2, closing=1)))

        assert file.state == "refused"
        assert counts() == (0, 0, 0)

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (b"not xml", "not_xml"),
            (b"", "not_xml"),
            (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", "doctype_refused"),
            (
                b"<Document xmlns='urn:x:camt.052.001.02'/>",
                "unknown_format",
            ),
            (camt053(DAY_1)[:900], "malformed_xml"),
        ],
    )
    def test_that_is_none_is_refused(self, organization_id, account, content, code):
        file = import_file(organization_id, content)

        assert (file.state, file.reason_code) == ("refused", code)
        assert file.reason
        assert counts() == (0, 0, 0)

    def test_is_sealed_at_rest(self, organization_id, account):
        import_file(organization_id, camt053(DAY_1))

        file, line = BankFile.objects.get(), BankLine.objects.order_by("id").first()

        assert b"Ada" not in bytes(file.content_sealed)
        assert b"FI21" not in bytes(line.counterparty_sealed)
        clear = encryption.unseal(
            organization_id, queries.LINE_COLUMN, line.id, bytes(line.counterparty_sealed)
        )
        assert json.loads(clear)["account"] == "FI2112345600000785"
        assert line.counterparty_tail == "0785"


class TestACardNumber:
    def test_in_a_bank_s_words_is_masked_and_the_line_is_the_same(self, organization_id, account):
        text = "KORT 4111 1111 1111 1111 RF18539007547034"
        extra = "<AddtlNtryInf>5500000000000004</AddtlNtryInf>"
        made = replace(DAY_1, entries=(replace(CREDIT, text=text, extra=extra),))
        import_file(organization_id, camt053(made))

        line = BankLine.objects.get()
        assert line.texts == ["KORT •••• •••• •••• 1111 RF18539007547034"]
        assert line.text == "••••••••••••0004"
        again = import_file(organization_id, camt053(made, message_id="MSG-2"))
        assert (again.state, BankLine.objects.count()) == ("imported", 1)


class TestAnAccount:
    def test_we_do_not_know_keeps_the_statement_and_takes_nothing(self, organization_id):
        file = import_file(organization_id, camt053(DAY_1))

        assert (file.state, file.reason_code) == ("unknown_account", "unknown_account")
        assert "line 4" in file.reason
        assert "…3000" in file.reason
        assert counts() == (1, 0, 0)
        assert not OutboxEvent.objects.filter(aggregate_type="bank_file").exists()

    def test_added_later_has_its_statements_read_again(self, organization_id):
        file = import_file(organization_id, camt053(DAY_1))
        create_bank_account(organization_id)

        again = operations.import_received_file(
            organization_id=organization_id, bank_file_id=file.id, actor=ACTOR, now=NOW
        )

        assert again.state == "imported"
        assert counts() == (1, 2, 2)
        assert chains() == [("STMT-1", "first", "imported")]

    def test_added_later_gives_the_file_all_its_tries(self, organization_id):
        import_file(organization_id, camt053(DAY_1))
        BankFileWork.objects.update(state="done", attempts=11)

        create_bank_account(organization_id)

        work = BankFileWork.objects.get()
        assert (work.state, work.attempts) == ("pending", 0)

    def test_we_do_not_know_lets_the_file_s_others_go_on(self, organization_id, account):
        other = replace(DAY_1, iban="FI8529501800030574", statement_id="OTHER")

        file = import_file(organization_id, camt053(other, DAY_1))
        create_bank_account(organization_id, identification="FI8529501800030574")
        again = operations.import_received_file(
            organization_id=organization_id, bank_file_id=file.id, actor=ACTOR, now=NOW
        )

        assert (file.state, again.state) == ("imported", "imported")
        assert sorted(chains()) == [("OTHER", "first", "imported"), ("STMT-1", "first", "imported")]
        assert OutboxEvent.objects.filter(aggregate_type="bank_file").count() == 1

    def test_other_than_asked_for_refuses_the_file(self, organization_id, account):
        other = replace(DAY_1, iban="FI8529501800030574")

        file = import_file(organization_id, camt053(other), bank_account_id=account.id)

        assert (file.state, file.reason_code) == ("refused", "other_account")
        assert "…0574" in file.reason
        assert "line 4" in file.reason
        assert counts() == (0, 0, 0)

    def test_that_is_asked_for_and_not_in_the_file_s_currency_refuses_it(
        self, organization_id, account
    ):
        file = import_file(organization_id, camt053(DOLLARS), bank_account_id=account.id)

        assert (file.state, file.reason_code) == ("refused", "currency_mismatch")
        assert "in USD" in file.reason
        assert counts() == (0, 0, 0)

    def test_of_another_organization_is_unknown(self, organization_id, account):
        other = create_organization("Other")

        file = import_file(other, camt053(DAY_1))

        assert file.state == "unknown_account"
        assert BankLine.objects.count() == 0


class TestALonePage:
    """Its other pages are not in the file: nothing is taken of it, whoever's it is."""

    PAGE = replace(DAY_1, page=(1, False), codes=("OPBD", "ITBD"))
    WITHOUT_BALANCES = replace(PAGE, opening=None, page=(2, False))

    @pytest.mark.parametrize("page", [PAGE, WITHOUT_BALANCES])
    def test_waits_for_the_others(self, organization_id, account, page):
        file = import_file(organization_id, camt053(page))

        assert (file.state, counts()) == ("imported", (1, 0, 0))
        assert BankStatement.objects.get().state == "waiting"

    @pytest.mark.parametrize("page", [PAGE, WITHOUT_BALANCES])
    def test_of_an_account_that_is_added_later_waits_then(self, organization_id, page):
        file = import_file(organization_id, camt053(page))
        assert (file.state, file.reason_code) == ("unknown_account", "unknown_account")

        account = create_bank_account(organization_id)
        import_due()

        file.refresh_from_db()
        row = BankStatement.objects.get()
        assert (file.state, file.reason_code, file.problems) == ("imported", "", [])
        assert (row.state, row.bank_account_id, counts()) == ("waiting", account.id, (1, 0, 0))
        assert BankFileWork.objects.get().state == "done"

    def test_of_an_account_that_is_added_leaves_the_file_s_other_statements(
        self, organization_id, account
    ):
        page = replace(self.PAGE, iban="FI2112345600000785", statement_id="PAGE")
        nobodys = replace(DAY_1, iban="FI8529501800030574", statement_id="OTHER")
        file = import_file(organization_id, camt053(DAY_1, page, nobodys))
        assert file.state == "imported"

        create_bank_account(organization_id, identification=page.iban)
        import_due()

        file.refresh_from_db()
        assert BankFileWork.objects.get().state == "done"
        assert [row.state for row in BankStatement.objects.order_by("position")] == [
            "imported",
            "waiting",
            "unknown_account",
        ]
        assert (file.state, counts()) == ("imported", (3, 2, 2))
        [warning] = file.warnings
        assert (warning["code"], "…0574" in warning["detail"]) == ("unknown_account", True)
        assert OutboxEvent.objects.filter(aggregate_type="bank_file").count() == 1


class TestANumberInSeveralCurrencies:
    """One IBAN, and a statement for each currency that the bank keeps under it, in one file."""

    def test_brings_each_statement_to_the_account_in_its_currency(self, organization_id, account):
        dollars = create_bank_account(organization_id, currency="USD")

        file = import_file(organization_id, camt053(DAY_1, DOLLARS))

        assert (file.state, file.warnings) == ("imported", [])
        found = BankStatement.objects.order_by("position").values_list("bank_account", "chain")
        assert list(found) == [(account.id, "first"), (dollars.id, "first")]
        lines = BankLine.objects.order_by("currency").values_list("bank_account", "currency")
        assert set(lines) == {(account.id, "EUR"), (dollars.id, "USD")}

    def test_is_taken_whole_whichever_of_its_accounts_was_asked_for(self, organization_id, account):
        dollars = create_bank_account(organization_id, currency="USD")

        file = import_file(organization_id, camt053(DAY_1, DOLLARS), bank_account_id=dollars.id)

        assert (file.state, counts()) == ("imported", (2, 4, 4))
        assert LineQueue.objects.filter(state="pending").count() == 2

    def test_keeps_the_statement_of_a_currency_that_we_have_not_added(
        self, organization_id, account
    ):
        file = import_file(organization_id, camt053(DAY_1, DOLLARS))

        assert (file.state, counts()) == ("imported", (2, 2, 2))
        [warning] = file.warnings
        assert warning["code"] == "unknown_account"
        assert "in USD is none of ours (we have it in EUR)" in warning["detail"]

        dollars = create_bank_account(organization_id, currency="USD")
        import_due()

        file.refresh_from_db()
        assert (file.state, file.warnings, counts()) == ("imported", [], (2, 4, 4))
        assert BankStatement.objects.filter(bank_account=dollars, chain="first").count() == 1

    def test_alone_in_a_currency_that_we_have_not_added_waits_for_it(
        self, organization_id, account
    ):
        file = import_file(organization_id, camt053(DOLLARS))

        assert (file.state, file.reason_code) == ("unknown_account", "unknown_account")
        assert "we have it in EUR" in file.reason
        create_bank_account(organization_id, currency="USD")
        import_due()
        file.refresh_from_db()
        assert (file.state, counts()) == ("imported", (1, 2, 2))

    def test_has_pages_of_each_currency_that_are_not_mixed_up(self, organization_id, account):
        create_bank_account(organization_id, currency="USD")
        pages = [
            replace(made, entries=(entry,), page=(number, number == 2), codes=codes, **balances)
            for made, entries in ((DAY_1, DAY_1.entries), (DOLLARS, DOLLARS.entries))
            for number, entry, codes, balances in (
                (1, entries[0], ("OPBD", "ITBD"), {"opening": 5_00, "closing": 105_00}),
                (2, entries[1], ("ITBD", "CLBD"), {"opening": 105_00, "closing": 65_00}),
            )
        ]

        file = import_file(organization_id, camt053(*pages))

        assert (file.state, file.problems) == ("imported", [])
        assert counts() == (2, 4, 4)


class TestHowMuchAFileHolds:
    """It is taken whole in one turn: what is in it is bounded, and the refusal says how."""

    def refused(self, organization_id, content):
        file = import_file(organization_id, content)
        assert (file.state, file.reason_code, counts()) == ("refused", "file_too_large", (0, 0, 0))
        return file

    def test_is_counted_in_entries(self, organization_id, account, monkeypatch):
        monkeypatch.setattr(_nodes, "TRANSACTIONS_MAX", 3)
        most = replace(DAY_1, entries=(CREDIT,) * 3)
        more = replace(DAY_1, entries=(CREDIT,) * 4, statement_id="MORE")

        assert "more than 3 transactions" in self.refused(organization_id, camt053(more)).reason
        assert import_file(organization_id, camt053(most)).state == "imported"

    def test_counts_the_transactions_of_a_lump_before_they_are_read(
        self, organization_id, account, monkeypatch
    ):
        monkeypatch.setattr(_nodes, "TRANSACTIONS_MAX", 3)
        lump = Entry(amount=100_00, details='<TxDtls><Amt Ccy="none"/></TxDtls>' * 4)

        file = self.refused(organization_id, camt053(replace(DAY_1, entries=(lump,))))

        assert "line " in file.reason

    def test_counts_what_all_its_statements_hold_together(
        self, organization_id, account, monkeypatch
    ):
        monkeypatch.setattr(_nodes, "TRANSACTIONS_MAX", 3)

        self.refused(organization_id, camt053(DAY_1, DAY_2, DAY_3))

    def test_is_counted_in_statements(self, organization_id, account, monkeypatch):
        monkeypatch.setattr(_nodes, "STATEMENTS_MAX", 2)

        file = self.refused(organization_id, camt053(DAY_1, DAY_2, DAY_3))

        assert "more than 2 statements" in file.reason
        assert import_file(organization_id, camt053(DAY_1, DAY_2)).state == "imported"

    def test_reads_an_account_s_chain_once(self, organization_id, account):
        import_file(organization_id, camt053(DAY_1))
        chain = []

        def watch(execute, sql, params, many, context):
            if sql.startswith("SELECT") and "is_followed" in sql:
                chain.append(sql)
            return execute(sql, params, many, context)

        with connection.execute_wrapper(watch):
            import_file(organization_id, camt053(DAY_2, DAY_3))

        assert len(chain) == 1
        assert [each for _id, each, _state in chains()] == ["first", "follows", "follows"]


class TestTheChain:
    def test_is_made_by_balances_whatever_the_order_in_the_file(self, organization_id, account):
        import_file(organization_id, camt053(DAY_3, DAY_2, DAY_1))

        assert chains() == [
            ("STMT-1", "first", "imported"),
            ("STMT-2", "follows", "imported"),
            ("STMT-3", "follows", "imported"),
        ]

    def test_shows_a_gap_until_the_missing_one_fits_in_between(self, organization_id, account):
        import_file(organization_id, camt053(DAY_1))
        import_file(organization_id, camt053(DAY_3))
        before = chains()

        import_file(organization_id, camt053(DAY_2))

        assert before[1] == ("STMT-3", "gap", "imported")
        assert [chain for _id, chain, _state in chains()] == ["first", "follows", "follows"]

    def test_refuses_the_same_statement_with_other_lines(self, organization_id, account):
        import_file(organization_id, camt053(DAY_1))
        changed = replace(DAY_1, entries=(Entry(amount=60_00),))

        file = import_file(organization_id, camt053(changed))

        assert file.reason_code == "statement_changed"
        assert BankLine.objects.count() == 2

    def test_refuses_what_is_older_than_its_first(self, organization_id, account):
        import_file(organization_id, camt053(DAY_3))

        file = import_file(organization_id, camt053(DAY_1))

        assert file.reason_code == "before_first_statement"

    def test_counts_equal_lines_and_drops_none(self, organization_id, account):
        coffee = Entry(amount=-3_50)
        import_file(organization_id, camt053(Made(entries=(coffee, coffee))))
        later = Made(entries=(coffee,), opening=-7_00, statement_id="STMT-2")

        import_file(organization_id, camt053(later))

        assert sorted(BankLine.objects.values_list("occurrence", flat=True)) == [1, 2, 3]

    def test_reads_no_line_for_each_equal_one_that_is_known(self, organization_id, account):
        """A day of many statements, each with the same charge many times."""
        charges = (Entry(amount=-10),) * 20
        days = [
            replace(DAY_1, entries=charges, opening=100_00 - 200 * number, statement_id=f"{number}")
            for number in range(3)
        ]
        rows = []

        def watch(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            if "FROM banking_line" in sql:
                rows.append(context["cursor"].rowcount)
            return result

        with connection.execute_wrapper(watch):
            file = import_file(organization_id, camt053(*days))

        assert file.state == "imported"
        numbers = BankLine.objects.order_by("occurrence").values_list("occurrence", flat=True)
        assert list(numbers) == list(range(1, 61))
        assert max(rows) == 2

    def test_takes_only_the_new_lines_of_one_that_overlaps(self, organization_id, account):
        morning = Made(entries=(CREDIT,), opening=0)
        whole_day = Made(entries=(CREDIT, DEBIT), opening=0, statement_id="STMT-DAY")
        import_file(organization_id, camt053(morning))

        import_file(organization_id, camt053(whole_day))

        assert [chain for _id, chain, _state in chains()] == ["first", "overlaps"]
        assert sorted(BankLine.objects.values_list("amount_minor", flat=True)) == [-40_00, 100_00]

    def test_refuses_one_that_overlaps_and_does_not_add_up(self, organization_id, account):
        import_file(organization_id, camt053(Made(entries=(CREDIT,), opening=0)))
        odd = Made(entries=(CREDIT, DEBIT), opening=9_00, statement_id="STMT-DAY")

        file = import_file(organization_id, camt053(odd))

        assert file.reason_code == "overlap_mismatch"
        assert file.problems[0]["difference_minor"] == 9_00
        assert BankLine.objects.count() == 1


class TestANotification:
    NAMED = replace(CREDIT, account_servicer_ref="REF-1")

    @pytest.mark.parametrize("statement_first", [True, False])
    def test_and_its_statement_line_are_one_in_either_order(
        self, organization_id, account, statement_first
    ):
        contents = [
            camt054(Made(entries=(self.NAMED,), statement_id="NTF")),
            camt053(Made(entries=(self.NAMED, DEBIT), opening=0)),
        ]

        for content in reversed(contents) if statement_first else contents:
            import_file(organization_id, content)

        states = sorted(BankLineStatus.objects.values_list("state", flat=True))
        assert states == ["known", "new", "new"]
        assert BankLine.objects.filter(same_as__isnull=False).count() == 1

    def test_without_the_bank_s_reference_only_informs(self, organization_id, account):
        info = replace(self.NAMED, status="INFO")

        import_file(organization_id, camt054(Made(entries=(CREDIT, info))))

        assert set(BankLineStatus.objects.values_list("state", flat=True)) == {"known"}
        assert LineQueue.objects.get().state == "done"


class TestDetails:
    def test_that_add_up_are_units(self, organization_id, account):
        details = "".join(
            f"<TxDtls><Refs><EndToEndId>E{n}</EndToEndId></Refs>"
            f'<Amt Ccy="EUR">{n}.00</Amt></TxDtls>'
            for n in (60, 40)
        )

        import_file(organization_id, camt053(Made(entries=(replace(CREDIT, details=details),))))

        assert BankLine.objects.get().unit_count == 2
        rows = BankLineDetail.objects.order_by("position")
        assert [(row.amount_minor, row.end_to_end_id) for row in rows] == [
            (60_00, "E60"),
            (40_00, "E40"),
        ]


@needs_real_files
@pytest.mark.bank_files
class TestRealFiles:
    def test_the_two_that_are_off_change_nothing(self, organization_id):
        create_bank_account(organization_id, identification="CH2909000000250094239", currency="CHF")
        create_bank_account(organization_id, identification="NL26VAYB8060476890")

        postfinance = import_file(organization_id, real_file("camt053/postfinance-2020-11-25.xml"))
        single = import_file(organization_id, real_file("camt053/single-entry-v8.xml"))

        assert (postfinance.state, postfinance.reason_code) == ("refused", "balance_mismatch")
        assert "1,537.00 CHF" in postfinance.reason
        assert (single.state, single.reason_code) == ("refused", "currency_mismatch")
        assert counts() == (0, 0, 0)

    def test_two_statements_of_one_file_chain(self, organization_id):
        create_bank_account(organization_id, identification="NL26VAYB8060476890")

        import_file(organization_id, real_file("camt053/multi-statement-v2.xml"))

        assert [chain for _id, chain, _state in chains()] == ["first", "follows"]

    @pytest.mark.parametrize("order", [("camt053", "camt054"), ("camt054", "camt053")])
    def test_finland_s_two_files_are_eleven_posted_lines(self, organization_id, order):
        create_bank_account(organization_id, identification="FI7433010001222090")

        for folder in order:
            file = import_file(organization_id, real_file(f"{folder}/finland-sample.xml"))
            assert file.state == "imported"

        posted = BankLineStatus.objects.filter(state="new")
        amounts = BankLine.objects.filter(id__in=posted.values("line_id")).values_list(
            "amount_minor", flat=True
        )
        assert (len(amounts), sum(amounts)) == (11, 23644_83 - 10000_00 - 1000_00)


class TestTheDatabase:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE banking_line SET amount_minor = 1",
            "DELETE FROM banking_line",
            "TRUNCATE banking_line CASCADE",
            "UPDATE banking_statement SET closing_minor = 1",
            "DELETE FROM banking_statement",
            "DELETE FROM banking_file",
            "UPDATE banking_file SET sha256 = '\\x00'",
            "UPDATE banking_file SET state = 'received'",
            "UPDATE banking_line_status SET state = 'matched'",
            "DELETE FROM banking_line_status",
            "UPDATE banking_account SET currency = 'USD'",
        ],
    )
    def test_refuses_changes_to_what_the_bank_said(self, organization_id, account, statement):
        import_file(organization_id, camt053(DAY_1))

        with pytest.raises(IntegrityError), connection.cursor() as cursor:
            cursor.execute(statement)
