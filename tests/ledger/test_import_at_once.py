"""Two imports of one journal at once: the one that is refused says that it is the other one."""

from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
from django.core.management import CommandError
from django.db import connection

from apps.core.invariants import breaches
from apps.ledger import errors, operations, queries
from apps.ledger.formats.journal import EntryLine
from apps.ledger.models import JournalEntry
from apps.ledger.operations import _importing, _importing_state
from tests.ledger.beside_entries import ANN, BOB, create_origin, ids_of
from tests.ledger.factories import ACTOR, NOW, committed, create_organization, post_transfer
from tests.ledger.journals import books_of, export, import_one_more, run_import
from tests.ledger.threads import Asking

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def origin():
    return create_origin()


@pytest.fixture
def file(origin, tmp_path):
    return export(origin, tmp_path / "journal.jsonl")


class Overtaken:
    """An import that another one of the same organization overtakes at a moment, once."""

    def __init__(self, target, file, moment, other) -> None:
        self.target, self.file, self.moment, self.other = target, file, moment, other
        self.is_over = False

    def run(self) -> None:
        operations.import_journal(
            organization_id=self.target, read=self.read, actor=ACTOR, now=NOW,
            on_progress=lambda what, _: self.meet(what),
        )  # fmt: skip

    def read(self):
        yield from self.file.read_bytes().splitlines()
        self.meet("lines checked")

    def meet(self, what) -> None:
        if what == self.moment and not self.is_over:
            self.is_over = True
            self.other()


class TestTwoImportsOfOneJournal:
    @pytest.mark.parametrize(
        ("moment", "posted"), [("lines checked", "all"), ("entries posted", "all but one")]
    )
    def test_the_one_that_was_overtaken_says_so(self, origin, file, monkeypatch, moment, posted):
        target = create_organization("Target")
        monkeypatch.setattr(_importing, "PORTION", 1)
        every = JournalEntry.objects.filter(organization_id=origin).count()
        met = every if posted == "all" else every - 1
        overtaken = Overtaken(target, file, moment, lambda: run_import(target, file))

        with pytest.raises(errors.ImportUnderWay, match=f"it posted {met} entries meanwhile"):
            overtaken.run()

        assert books_of(target) == books_of(origin)
        assert breaches() == []

    def test_of_which_one_is_stopped_goes_on_when_it_is_run_again(self, origin, file, monkeypatch):
        target = create_organization("Target")
        monkeypatch.setattr(_importing, "PORTION", 1)
        post_one_more = partial(import_one_more, target, file, monkeypatch)

        with pytest.raises(errors.ImportUnderWay, match="it posted 1 entries meanwhile"):
            Overtaken(target, file, "entries posted", post_one_more).run()

        run_import(target, file)
        assert books_of(target) == books_of(origin)

    def test_that_goes_on_while_it_is_counted_is_counted_as_of_one_instant(
        self, origin, tmp_path, monkeypatch
    ):
        """What it posts in between may be reversed by what is read after it."""
        accounts = ids_of(origin)
        gift = post_transfer(origin, accounts[ANN], accounts[BOB], 1_00, key="gift").entry_id
        committed(operations.reverse_entry)(
            organization_id=origin, entry_id=gift, reason="A slip", actor=ACTOR, now=NOW
        )
        file = export(origin, tmp_path / "with_a_reversal.jsonl")
        target = create_organization("Target")
        monkeypatch.setattr(_importing, "PORTION", 1)
        post_one_more = partial(import_one_more, target, file, monkeypatch)
        real, gone_on = _importing_state.count_by_others, []

        def go_on(execute, sql, params, many, context):
            answer = execute(sql, params, many, context)
            if "reverses_id" in sql and not gone_on:
                gone_on.append(sql)
                assert Asking(Overtaken(target, file, "never", None).run).ended().fault is None
            return answer

        def count(*values):
            with connection.execute_wrapper(go_on):
                return real(*values)

        monkeypatch.setattr(_importing_state, "count_by_others", count)

        with pytest.raises(errors.ImportUnderWay, match="it posted 1 entries meanwhile"):
            Overtaken(target, file, "entries posted", post_one_more).run()

        assert len(gone_on) == 1
        run_import(target, file)
        assert books_of(target) == books_of(origin)

    def test_the_command_names_the_code(self, file, monkeypatch):
        target = create_organization("Target")
        real = _importing._check_standing

        def overtake(run):
            monkeypatch.setattr(_importing, "_check_standing", real)
            run_import(target, file)
            real(run)

        monkeypatch.setattr(_importing, "_check_standing", overtake)

        with pytest.raises(CommandError, match=r"^import_under_way: Another import .* run this"):
            run_import(target, file)

    def test_of_another_journal_is_told_of_what_stands(self, file, tmp_path):
        """It is not the file's own entries that it meets."""
        target = create_organization("Target")
        other = export(create_origin(), tmp_path / "other.jsonl")
        overtaken = Overtaken(target, file, "lines checked", lambda: run_import(target, other))

        with pytest.raises(errors.OrganizationNotEmpty):
            overtaken.run()

    def test_and_what_others_than_an_import_posted_is_no_reason_to_compute_a_chain(
        self, file, monkeypatch
    ):
        """Of a used organization that takes long, and says nothing."""
        target = create_organization("Target")
        run_import(target, file)
        monkeypatch.setattr(queries, "stream_chain_by_id", None)
        lines = Counter({EntryLine: JournalEntry.objects.filter(organization=target).count()})
        run = _importing_state.Import(
            target, SimpleNamespace(lines=lines), ACTOR, NOW, {}, {}, posted=lines[EntryLine]
        )

        assert _importing_state.count_by_others(run, file.open) == 0
        lines[EntryLine] -= 1
        run.posted = 0
        assert _importing_state.count_by_others(run, file.open) == 0
