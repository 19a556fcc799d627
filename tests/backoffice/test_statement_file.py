"""A statement of account is taken out as a file."""

import csv
import io

import pytest

from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent
from apps.ledger.models import JournalEntry
from tests.accounts import factories as accounts
from tests.backoffice.books import JUNE, House, assert_noted_to_its_end
from tests.ledger.factories import create_organization, move, open_account, post

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


class TestAStatementAsAFile:
    """It is streamed, noted before and after, and no text in it is a formula."""

    @pytest.fixture
    def books(self):
        owner = create_organization()
        ann = open_account(owner, "wallets:ann:EUR", floor=None)
        bob = open_account(owner, "wallets:bob:EUR", floor=None)
        for number, text in enumerate(("=HYPERLINK(1)", " +1", "plain")):
            post(
                owner,
                move(
                    ann, bob, 1_00 + number, description=text, reference=f"@r{number}",
                    effective_at=JUNE,
                ),
            )  # fmt: skip
        return owner, ann

    @staticmethod
    def export(client, account, **fields):
        url = f"/admin/ledger/ledgeraccount/{encode_id('la', account)}/act/export/"
        sent = {
            "period": "2026-06",
            "clock": "effective",
            "reason": "For the auditors",
            "form_token": str(new_id()),
        }
        return client.post(url, sent | fields)

    def test_holds_its_lines_as_text_and_numbers_as_numbers(self, books):
        _, ann = books
        answer = self.export(House.signed_in(accounts.create_staff("auditor")), ann)

        assert answer["Content-Disposition"].endswith('-2026-06.csv"')
        rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
        assert rows[2] == ["opening", "0.00", "EUR", "0"]
        assert rows[3] == ["closing", "-3.03", "EUR", "-303"]
        lines = [dict(zip(rows[4], row, strict=True)) for row in rows[5:-1]]
        assert [line["description"] for line in lines] == ["'=HYPERLINK(1)", "' +1", "plain"]
        assert [line["reference"] for line in lines] == ["'@r0", "'@r1", "'@r2"]
        assert [line["amount_minor"] for line in lines] == ["-100", "-101", "-102"]
        assert [line["balance"] for line in lines] == ["-1.00", "-2.01", "-3.03"]
        assert rows[-1] == ["rows", "3"]

    def test_has_no_account_number_of_a_bank_in_full(self, books):
        owner, ann = books
        bob = open_account(owner, "wallets:bill:EUR", floor=None)
        text = "Rent DE89 3704 0044 0532 0130 00, RF18 5390 0754 7034"
        reference = "DE89370400440532013000"
        move_named = move(ann, bob, 1_00, description=text, reference=reference, effective_at=JUNE)
        post(owner, move_named)

        answer = self.export(House.signed_in(accounts.create_staff("auditor")), ann)

        file = b"".join(answer.streaming_content).decode()
        assert "Rent DE•• •••• 3000, RF18 5390 0754 7034" in file
        assert '"DE•• •••• 3000"' in file
        assert "0532" not in file

    def test_has_none_in_the_code_of_its_account(self, books):
        owner, ann = books
        bank = open_account(owner, "bank:nl91abna0417164300:EUR", type_="asset", floor=None)
        post(owner, move(bank, ann, 1_00, effective_at=JUNE))

        answer = self.export(House.signed_in(accounts.create_staff("auditor")), bank)

        file = b"".join(answer.streaming_content).decode()
        assert '"statement","bank:NL•• •••• 4300:EUR"' in file
        assert "0417" not in file

    def test_taken_again_by_one_form_is_one_export_that_is_noted_again(self, books):
        _, ann = books
        auditor = House.signed_in(accounts.create_staff("auditor"))
        token = str(new_id())
        answers = [self.export(auditor, ann, form_token=token) for _ in range(2)]

        noted = [row.after for row in AuditEvent.objects.filter(act="core.export").order_by("id")]
        assert all(b"".join(answer.streaming_content) for answer in answers)
        assert len({after["export"] for after in noted}) == 1
        assert [after.get("again", False) for after in noted] == [False, True]

    def test_is_noted_before_its_first_byte_and_after_its_last(self, books):
        _, ann = books
        answer = self.export(House.signed_in(accounts.create_staff("auditor")), ann)
        begun = AuditEvent.objects.get(act="core.export")
        assert begun.reason == "For the auditors"
        assert begun.after["since"] == "2026-06-01T00:00:00+00:00"

        assert_noted_to_its_end(begun, b"".join(answer.streaming_content))

    def test_that_breaks_off_has_no_second_note(self, books):
        _, ann = books
        answer = self.export(House.signed_in(accounts.create_staff("auditor")), ann)

        lines = iter(answer.streaming_content)
        next(lines)
        answer.close()

        assert AuditEvent.objects.filter(act="core.export").count() == 1

    def test_is_read_a_page_at_a_time(self, books, monkeypatch):
        from apps.ledger.operations import _statement_export  # noqa: PLC0415  (this test's bound)

        monkeypatch.setattr(_statement_export, "PAGE_ROWS", 1)
        owner, ann = books
        # The month may be over by now.
        recorded_at = JournalEntry.objects.filter(organization_id=owner).latest("id").recorded_at

        answer = self.export(
            House.signed_in(accounts.create_staff("finance_maker")), ann, clock="recorded",
            period=f"{recorded_at:%Y-%m}",
        )  # fmt: skip

        rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
        assert [row[9] for row in rows[5:-1]] == ["-100", "-101", "-102"]

    def test_is_not_for_who_may_not_export(self, books):
        _, ann = books
        client = House.signed_in(accounts.create_staff("risk_analyst"))

        assert self.export(client, ann).status_code == 403
        assert not AuditEvent.objects.filter(act="core.export").exists()
        page = client.get(f"/admin/ledger/ledgeraccount/{encode_id('la', ann)}/")
        assert "/act/export/" not in page.content.decode()

    def test_of_another_organizations_account_is_not_there(self, books):
        _, ann = books
        elsewhere = accounts.create_staff(
            "auditor", organizations=[accounts.create_organization()], sees_all=False
        )

        assert self.export(House.signed_in(elsewhere), ann).status_code == 404
        assert not AuditEvent.objects.filter(act="core.export").exists()

    @pytest.mark.parametrize("period", ["", "2026", "2026-13", "9999-01"])
    def test_wants_a_month(self, books, period):
        _, ann = books
        client = House.signed_in(accounts.create_staff("auditor"))

        assert self.export(client, ann, period=period).status_code == 400
        assert not AuditEvent.objects.filter(act="core.export").exists()

    def test_opens_with_the_month_that_was_looked_at(self, house):
        url = f"ledger/ledgeraccount/{encode_id('la', house.ann)}/"
        text = house.page(url, period="2026-05", clock="recorded")
        assert f"{url}act/export/?clock=recorded&amp;period=2026-05" in text

        assert 'value="2026-05"' in house.page(f"{url}act/export/", period="2026-05")
