"""What an operator names on a command line is looked up before anything is done with it."""

import pytest
from django.core.management import CommandError, call_command

from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent
from tests.ledger.factories import create_organization, fund, open_account

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def file(tmp_path):
    """A journal of one entry, as another organisation exported it."""
    organization = create_organization()
    fund(organization, open_account(organization, "wallets:a:EUR"), 100)
    path = tmp_path / "journal.jsonl"
    name = encode_id("org", organization)
    call_command("export_journal", organization=name, format="jsonl", output=path)
    return path


def run(command, file, printed):
    if command == "import_journal":
        call_command(command, str(file), organization=printed)
    elif command == "export_journal":
        call_command(command, organization=printed, output=file.with_name("other"))
    elif command == "seed_ledger":
        call_command(command, organization=printed, postings=2)
    else:
        call_command(command, organization=printed)


@pytest.mark.parametrize(
    "command",
    ["verify_ledger", "seal_ledger", "export_journal", "import_journal", "seed_ledger"],
)
class TestAnOrganizationThatIsNone:
    def test_is_named_and_nothing_is_written(self, command, file, capsys):
        printed = encode_id("org", new_id())
        trail = AuditEvent.objects.count()
        capsys.readouterr()

        with pytest.raises(CommandError, match=f"{printed}: There is no such organization"):
            run(command, file, printed)

        assert AuditEvent.objects.count() == trail
        assert [path.name for path in file.parent.iterdir()] == [file.name]
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("printed", ["nonsense", "la_01m8c7qt47f5n8tg7drd6t5tq8"])
    def test_is_named_where_it_is_no_id_of_one(self, command, file, printed):
        with pytest.raises(CommandError, match=f"{printed}: "):
            run(command, file, printed)
