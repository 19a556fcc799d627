from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.core.ids import encode_id
from tests.banking.factories import create_bank_account, create_organization
from tests.banking.real_files import FOLDER, needs_real_files
from tests.banking.statements import Entry, Made, camt053

pytestmark = pytest.mark.django_db(transaction=True)


def run(path, account):
    out = StringIO()
    call_command("import_statement", str(path), bank_account=account, stdout=out)
    return out.getvalue()


@pytest.fixture
def account():
    return encode_id("ba", create_bank_account(create_organization()).id)


def write(folder, content):
    path = folder / "day.xml"
    path.write_bytes(content)
    return path


class TestImportStatement:
    def test_says_per_statement_what_came(self, tmp_path, account):
        path = write(tmp_path, camt053(Made(entries=(Entry(amount=10_00),), opening=5_00)))

        said, again = run(path, account), run(path, account)

        line = "STMT-1: imported, the account's first; 1 of 1 lines are new; 5.00 EUR to 15.00 EUR"
        assert line in said
        assert said == again

    def test_names_the_place_of_what_is_wrong(self, tmp_path, account):
        content = camt053(Made(entries=(Entry(amount=10_00),), opening=1)).replace(
            b">10.00<", b">ten<"
        )

        with pytest.raises(CommandError) as refusal:
            run(write(tmp_path, content), account)

        assert "day.xml, statement STMT-1, entry 1, line 9: 'ten' is not an amount." in str(
            refusal.value
        )

    def test_refuses_a_file_of_another_account(self, tmp_path, account):
        content = camt053(Made(iban="FI8529501800030574"))

        with pytest.raises(CommandError, match="…0574, not of ba_"):
            run(write(tmp_path, content), account)

    @pytest.mark.parametrize("wrong", ["nothing", "ba_nothing", "po_00000000000000000000000000"])
    def test_refuses_an_account_that_is_none(self, tmp_path, wrong):
        with pytest.raises(CommandError):
            run(write(tmp_path, b""), wrong)

    def test_refuses_a_path_that_is_none(self, tmp_path, account):
        with pytest.raises(CommandError, match="No such file"):
            run(tmp_path / "none.xml", account)

    @needs_real_files
    @pytest.mark.bank_files
    def test_names_the_francs_that_are_missing(self):
        francs = create_bank_account(
            create_organization(), identification="CH2909000000250094239", currency="CHF"
        )

        with pytest.raises(CommandError, match=r"off by 1,537\.00 CHF"):
            run(FOLDER / "camt053/postfinance-2020-11-25.xml", encode_id("ba", francs.id))
