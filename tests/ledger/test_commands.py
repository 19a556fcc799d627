"""What an operator names is looked up before anything is done with it, and what runs is stopped."""

import os
import signal
from contextlib import ExitStack, contextmanager

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.accounts.models import Organization
from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent
from apps.ledger.formats import WRITERS
from apps.ledger.management.commands.export_journal import COMPLETE
from tests.ledger.factories import create_organization, fund, open_account
from tests.ledger.threads import Asking, count_waiting, sql
from tests.support import running, wait_until

FORMATS = [*WRITERS, COMPLETE]

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


class TestAFileThatIsNone:
    def test_is_named_by_the_command_that_would_read_it(self, tmp_path):
        printed = encode_id("org", create_organization())

        with pytest.raises(CommandError, match=r"none\.jsonl: No such file or directory"):
            call_command("import_journal", tmp_path / "none.jsonl", organization=printed)
        with pytest.raises(CommandError, match="Is a directory"):
            call_command("import_journal", tmp_path, organization=printed)

    def test_is_named_by_the_command_that_would_write_it(self, tmp_path):
        printed, path = encode_id("org", create_organization()), tmp_path / "none" / "journal"

        with pytest.raises(CommandError, match=r"none/journal: No such file or directory"):
            call_command("export_journal", organization=printed, output=path)


class TestWhatIsThereAlready:
    """Under the name that is to be written, and is no file."""

    @pytest.fixture
    def pipe(self, tmp_path):
        path = tmp_path / "pipe"
        os.mkfifo(path)
        return path

    def test_and_is_a_pipe_is_written_to(self, file, pipe):
        reading = Asking(pipe.read_text)

        run_export(pipe)

        assert reading.ended().answer == file.read_text()
        assert pipe.is_fifo()

    def test_and_is_a_pipe_nobody_reads_to_the_end_is_named(self, file, pipe):
        leaving = Asking(lambda: pipe.open("rb").close())

        with pytest.raises(CommandError, match=f"{pipe}: Broken pipe"):
            run_export(pipe)

        assert leaving.ended().fault is None

    def test_and_is_a_folder_is_named_before_anything_is_read(self, file, tmp_path):
        with pytest.raises(CommandError, match=f"{tmp_path}: Is a directory"):
            run_export(tmp_path)

    def test_and_is_a_link_leads_to_what_is_written(self, file, tmp_path):
        link, target = tmp_path / "link.jsonl", tmp_path / "target.jsonl"
        target.write_text("an older journal")
        link.symlink_to(target)

        run_export(link)

        assert link.is_symlink()
        assert target.read_text() == file.read_text()


def run_export(path):
    [origin] = Organization.objects.all()
    name = encode_id("org", origin.id)
    call_command("export_journal", organization=name, format="jsonl", output=path)


class TestBooksThatTakeLong:
    """Longer than the session's role may: what is of one snapshot has to be one transaction."""

    @pytest.mark.parametrize("limit", ["statement_timeout", "transaction_timeout"])
    @pytest.mark.parametrize(
        "command",
        [["verify_ledger"], *(["export_journal", "--format", name] for name in sorted(FORMATS))],
    )
    def test_are_read_to_the_end(self, file, tmp_path, command, limit):
        [origin] = Organization.objects.all()
        whole = [*command, "--organization", encode_id("org", origin.id)]
        if command[0] == "export_journal":
            whole.append(f"--output={tmp_path / 'again'}")

        def run_limited():
            sql(f"SET {limit} = '100ms'")
            call_command(*whole)

        with tables_held("ledger_account"):
            asking = Asking(run_limited)
            # Longer than it may: one that is canceled waits no more.
            wait_until(lambda: count_waiting(seconds=0.3) == 1 or asking.fault)

        assert asking.ended().fault is None


class TestStopped:
    def test_by_ctrl_c_they_say_so_in_a_word_and_run_again(self, file, tmp_path):
        [origin] = Organization.objects.all()
        target = create_organization("Target")
        whole = ["--organization", encode_id("org", origin.id)]
        output = tmp_path / "again.jsonl"
        commands = [
            ["verify_ledger", *whole],
            ["seal_ledger", *whole],
            ["export_journal", *whole, "--format=jsonl", f"--output={output}"],
            ["import_journal", str(file), "--organization", encode_id("org", target)],
        ]

        with ExitStack() as stack:
            stack.enter_context(tables_held("ledger_account", "ledger_chain_head"))
            running_now = [stack.enter_context(running("manage.py", *one)) for one in commands]
            wait_until(lambda: count_waiting() == len(commands))
            for process in running_now:
                process.send_signal(signal.SIGINT)
            told = [process.communicate(timeout=30)[0] for process in running_now]

        assert [process.returncode for process in running_now] == [130] * 4
        assert [text.splitlines()[-1] for text in told] == ["Stopped."] * 4
        assert not any("Traceback" in text for text in told)
        assert not output.exists()
        for name, *arguments in commands:
            call_command(name, *arguments)
        assert output.read_text() == file.read_text()


@contextmanager
def tables_held(*tables: str):
    """Another connection holds the tables: whoever reads them waits."""
    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
    try:
        yield
    finally:
        other.rollback()
        other.close()
