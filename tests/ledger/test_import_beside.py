"""What stands beside the entries of an imported journal: money changed, holds, monitors, months."""

import json
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from msgspec import Raw

from apps.accounts.models import Organization
from apps.core import outbox
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.core.models import OutboxEvent
from apps.ledger import errors, operations, queries
from apps.ledger.formats import journal
from apps.ledger.models import (
    BalanceMonitor,
    FxTransfer,
    Hold,
    LedgerAccount,
    Period,
    PeriodBalance,
)
from apps.ledger.operations import (
    CaptureRequest,
    FxRequest,
    HoldRequest,
    MonitorTerms,
    _importing,
    _importing_state,
)
from apps.ledger.rules import MonitorDirection, MonitorMeasure, PlaceHold
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    close_month,
    create_organization,
    fund,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.journals import books_of, export, refused, rewrite, run_import
from tests.ledger.rows import fingerprints
from tests.support import race, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

OCTOBER = date(2026, 10, 1)
ANN, BOB, DOLLARS = "wallets:ann:EUR", "wallets:bob:EUR", "wallets:ann:USD"
TILL = "tills:1:EUR"


def ids_of(organization) -> dict:
    return dict(LedgerAccount.objects.filter(organization_id=organization)
                .values_list("code", "id"))  # fmt: skip


def hold(organization, debit, credit, amount, **more) -> None:
    ids = ids_of(organization)
    asked = HoldRequest(
        debit_account_id=ids[debit], credit_account_id=ids[credit], amount_minor=amount,
        currency="EUR", **more,
    )  # fmt: skip
    operations.place_hold(
        organization_id=organization, hold=asked, idempotency_key=f"{new_id()}", actor=ACTOR,
        now=NOW,
    )  # fmt: skip


def open_holds(organization) -> list[Hold]:
    return list(
        queries.holds(organization_id=organization, search=queries.HoldSearch(), now=NOW)
        .filter(status="open")
        .order_by("id")
    )


def capture(organization, hold_id, amount=None):
    return operations.capture_hold(
        organization_id=organization, hold_id=hold_id,
        capture=CaptureRequest(amount_minor=amount), idempotency_key=f"{new_id()}", actor=ACTOR,
        now=NOW,
    )  # fmt: skip


@pytest.fixture
def origin():
    """A closed October; then money changed, holds of all kinds, and monitors, in November."""
    organization = create_organization("Origin")
    ann = open_account(organization, ANN)
    open_account(organization, BOB)
    dollars = open_account(organization, DOLLARS)
    open_account(organization, TILL, type_="asset")
    fund(organization, ann, 100_00, at=datetime.combine(OCTOBER, NOW.timetz()))
    close_month(organization, OCTOBER, now=NOW)
    operations.exchange(
        organization_id=organization,
        fx=FxRequest(
            from_account_id=ann, to_account_id=dollars, sold_minor=10_01, sold_currency="EUR",
            bought_currency="USD", rate=Decimal("1.0837"), source="ecb", quoted_at=NOW,
            reference="fx-1", description="For the trip", metadata={"trip": "NY"},
        ),
        idempotency_key="fx", actor=ACTOR, now=NOW,
    )  # fmt: skip
    for number, amount in enumerate((5_00, 6_00)):
        hold(organization, ANN, BOB, amount, reference=f"ho-{number}", metadata={"n": str(number)},
             expires_at=NOW + timedelta(days=7))  # fmt: skip
    hold(organization, ANN, BOB, 20_00, multi_capture=True)
    hold(organization, TILL, ANN, 7_00)
    hold(organization, ANN, BOB, 1_00)
    *_, parts, _till, gone = open_holds(organization)
    capture(organization, parts.id, 8_00)
    operations.void_hold(
        organization_id=organization, hold_id=gone.id, idempotency_key="v", actor=ACTOR, now=NOW
    )
    for threshold in (50_00, 70_00, 10_00):
        monitor = operations.create_monitor(
            organization_id=organization,
            terms=MonitorTerms(
                account_id=ann, measure=MonitorMeasure.AVAILABLE, direction=MonitorDirection.BELOW,
                threshold_minor=threshold, description="Low",
            ),
            idempotency_key=f"m-{threshold}", actor=ACTOR, now=NOW,
        )  # fmt: skip
        if threshold == 70_00:
            operations.deactivate_monitor(
                organization_id=organization, monitor_id=monitor, actor=ACTOR, now=NOW
            )
    return organization


@pytest.fixture
def file(origin, tmp_path):
    return export(origin, tmp_path / "journal.jsonl")


def beside(organization) -> dict:
    """Return what stands beside the entries, without ids."""
    codes = {id_: code for code, id_ in ids_of(organization).items()}
    months = queries.periods(organization_id=organization)
    return {
        "holds": [
            (codes[h.debit_account_id], codes[h.credit_account_id],
             h.amount_minor - h.captured_minor, h.currency, h.reference, h.expires_at,
             h.multi_capture, h.metadata)
            for h in open_holds(organization)
        ],
        "fx": [
            (codes[f.from_account_id], codes[f.to_account_id], f.sold_minor, f.bought_minor,
             f.rate, f.remainder_minor, f.source, f.quoted_at, f.reference, f.description,
             f.metadata, f.effective_at, f.created_at)
            for f in FxTransfer.objects.filter(organization_id=organization)
        ],
        "monitors": [
            (codes[m.account_id], m.measure, m.direction, m.threshold_minor, m.description,
             m.is_beyond)
            for m in queries.monitors(organization_id=organization, is_active=True).order_by("id")
        ],
        "months": [(m.month, m.state, m.closings, m.requested_by, m.approved_by) for m in months],
        "stored": [
            sorted(
                (codes[line.account_id], line.opening_minor, line.debits_minor, line.credits_minor)
                for line in PeriodBalance.objects.filter(
                    organization_id=organization, month=month.month, closing=month.closings
                )
            )
            for month in months
        ],
    }  # fmt: skip


def closed(organization) -> bool:
    """Say whether its months are closed, after the job ran that closes them."""
    call_command("close_periods")
    return {m.state for m in queries.periods(organization_id=organization)} == {"closed"}


class TestImport:
    def test_makes_the_same_books_and_all_that_stands_beside_them(self, origin, file):
        target = create_organization("Target")

        run_import(target, file)

        wait_until(partial(closed, target))
        assert books_of(target) == books_of(origin)
        assert beside(target) == beside(origin)
        assert [row[2] for row in beside(target)["holds"]] == [5_00, 6_00, 12_00, 7_00]
        assert beside(target)["monitors"][0][-1] is False
        told = Counter(
            OutboxEvent.objects.filter(organization_id=target).values_list("type", flat=True)
        )
        assert told == {
            "ledger_account.opened": 7, "journal_entry.posted": 4, "fx_transfer.posted": 1,
            "hold.placed": 4, "period.frozen": 1, "period.closed": 1,
        }  # fmt: skip
        ann, was = (balance(one, ids_of(one)[ANN]) for one in (target, origin))
        assert (ann.posted, ann.pending_out, ann.available) == (81_99, 23_00, 58_99)
        assert (was.posted, was.pending_out, was.available) == (81_99, 23_00, 58_99)
        call_command("verify_ledger", quiet=True)
        assert breaches() == []

    def test_leaves_holds_that_are_captured_and_released_as_ever(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)
        first, second, parts, _till = open_holds(target)

        capture(target, first.id)
        capture(target, parts.id, 2_00)
        capture(target, parts.id, 10_00)
        with pytest.raises(errors.HoldAlreadyCaptured):
            capture(target, parts.id, 1)
        operations.void_hold(
            organization_id=target, hold_id=second.id, idempotency_key="v", actor=ACTOR, now=NOW
        )

        ann = balance(target, ids_of(target)[ANN])
        assert (ann.posted, ann.pending_out) == (64_99, 0)
        assert breaches() == []

    def test_leaves_holds_that_end_with_their_time(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)

        ended = operations.expire_holds(organization_id=target, now=NOW + timedelta(days=7))

        assert ended == 2
        assert balance(target, ids_of(target)[ANN]).pending_out == 12_00

    def test_watches_on(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)
        ids = ids_of(target)

        post_transfer(target, ids[ANN], ids[BOB], 9_00, key="k")

        [event] = OutboxEvent.objects.filter(
            organization_id=target, type="balance_monitor.triggered"
        )
        assert (event.data["threshold"], event.data["balance"]) == (50_00, 49_99)

    def test_keeps_closed_months_closed_by_the_same_two(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)
        ids = ids_of(target)

        with pytest.raises(errors.PeriodClosed):
            post_transfer(
                target,
                ids[ANN],
                ids[BOB],
                1,
                key="k",
                effective_at=datetime.combine(OCTOBER, NOW.timetz()),
            )

        [period] = queries.periods(organization_id=target)
        assert (period.requested_by, period.approved_by) == ("staff:mara", "staff:anton")

    def test_of_two_closed_months_only_the_later_one_can_be_called_off(self, origin, tmp_path):
        later = NOW + timedelta(days=30)
        close_month(origin, date(2026, 11, 1), now=later)
        path = export(origin, tmp_path / "two.jsonl")
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert [line["month"] for line in lines if line["type"] == "period"] == [
            "2026-10-01", "2026-11-01",
        ]  # fmt: skip
        target = create_organization("Target")
        with path.open("rb") as file:
            content = file.readlines()
        # Without sealing, which the command does afterwards: both are frozen, none is closed yet.
        operations.import_journal(
            organization_id=target, read=lambda: iter(content), actor=ACTOR, now=later,
            on_progress=lambda *_: None,
        )  # fmt: skip

        def call_off(period):
            return operations.call_off_closing(
                organization_id=target, period_id=period.id, reason="Not yet",
                idempotency_key=str(period), actor=ACTOR, now=later,
            )  # fmt: skip

        first, second = queries.periods(organization_id=target)
        assert (first.state, second.state) == ("closing", "closing")
        with pytest.raises(errors.PeriodOutOfOrder):
            call_off(first)
        assert call_off(second).state == "open"
        assert call_off(second).state == "open"
        [first, _] = queries.periods(organization_id=target)
        assert first.state == "closing"

    def test_exports_again_what_was_imported(self, origin, file, tmp_path):
        target = create_organization("Target")
        run_import(target, file)
        wait_until(partial(closed, target))

        again = export(target, tmp_path / "again.jsonl")

        def without_ids(path):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            return [{k: v for k, v in line.items() if k not in {"id", "organization"}}
                    for line in lines]  # fmt: skip

        assert without_ids(again) == without_ids(file)

    def test_again_changes_nothing(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)
        before = books_of(target), beside(target)["holds"], OutboxEvent.objects.count()

        run_import(target, file)

        rows = Hold.objects, FxTransfer.objects, BalanceMonitor.objects, Period.objects
        counts = [one.filter(organization_id=target).count() for one in rows]
        assert counts == [4, 1, 2, 1]
        events = OutboxEvent.objects.count()
        assert (books_of(target), beside(target)["holds"]) == before[:2]
        # A month that could not be closed at once may have been closed by the second run.
        assert events - before[2] in {0, 1}

    def test_goes_on_though_time_has_ended_a_hold_that_stood_by_then(
        self, origin, file, monkeypatch
    ):
        target = create_organization("Target")

        def stop(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as stopped:
            stopped.setattr(_importing, "_finish", stop)
            with pytest.raises(KeyboardInterrupt):
                run_import(target, file)
        over = NOW + timedelta(days=7)
        assert operations.expire_holds(organization_id=target, now=over) == 2

        run_import(target, file)

        operations.expire_holds(organization_id=origin, now=over)
        wait_until(partial(closed, target))
        assert books_of(target) == books_of(origin)
        assert beside(target) == beside(origin)
        # And again, over what it finished.
        run_import(target, file)
        assert books_of(target) == books_of(origin)
        assert breaches() == []

    @pytest.mark.parametrize("stops", range(1, 7))
    def test_goes_on_after_it_was_stopped(self, origin, file, monkeypatch, stops):
        target = create_organization("Target")
        monkeypatch.setattr(_importing_state, "PORTION", 2)
        real, calls = _importing_state._restore_portion, []

        def stop(*values):
            calls.append(values)
            if len(calls) == stops:
                raise KeyboardInterrupt
            real(*values)

        monkeypatch.setattr(_importing_state, "_restore_portion", stop)
        try:
            run_import(target, file)
        except KeyboardInterrupt:
            assert len(calls) == stops
        monkeypatch.setattr(_importing_state, "_restore_portion", real)

        run_import(target, file)

        wait_until(partial(closed, target))
        assert books_of(target) == books_of(origin)
        assert beside(target) == beside(origin)
        assert breaches() == []

    def test_twice_at_once_is_imported_once(self, origin, file):
        def attempt(target) -> str:
            def read():
                with file.open("rb") as lines:
                    yield from lines

            try:
                operations.import_journal(
                    organization_id=target, read=read, actor=Actor.job("tests"), now=NOW,
                    on_progress=lambda *_: None,
                )  # fmt: skip
            except (errors.OrganizationNotEmpty, errors.JournalFileRefused):
                return "refused"
            return "done"

        for _ in range(3):
            target = create_organization("Target")

            outcomes = race(*[partial(attempt, target)] * 2)

            assert "done" in outcomes
            run_import(target, file)
            wait_until(partial(closed, target))
            assert books_of(target) == books_of(origin)
            assert beside(target) == beside(origin)

    def test_that_another_one_has_overtaken_adds_nothing_to_it(self, origin, file):
        target = create_organization("Target")

        def overtake(what, _):
            if what == "entries posted":
                run_import(target, file)

        with pytest.raises(errors.OrganizationNotEmpty, match="another import under way"):
            operations.import_journal(
                organization_id=target, read=lambda: iter(file.read_bytes().splitlines()),
                actor=ACTOR, now=NOW, on_progress=overtake,
            )  # fmt: skip

        wait_until(partial(closed, target))
        assert books_of(target) == books_of(origin)
        assert beside(target) == beside(origin)
        assert breaches() == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("kind", "change", "what"),
        [
            ("fx_transfer", {"bought": 10_85}, "at this rate 1084 are bought"),
            ("fx_transfer", {"sold_entry": 99}, "position 99 is not there"),
            ("fx_transfer", {"bought_entry": 2}, "position 2 is not there, or is of another"),
            (
                "fx_transfer",
                {"sold_entry": 1},
                f"position 1 is no exchange that posts 1001 on {ANN}",
            ),
            ("fx_transfer", {"sold_entry": 3, "bought_entry": 2}, "position 3 is no exchange that"),
            # At the rate it is right, and nobody posted it.
            (
                "fx_transfer",
                {"sold": 20_02, "bought": 21_69},
                "position 2 is no exchange that posts",
            ),
            ("fx_transfer", {"to_account": "wallets:x:USD"}, "wallets:x:USD, USD, which the file"),
            ("fx_transfer", {"rate": "-1"}, ""),
            ("fx_transfer", {"rate": "0"}, "A rate is greater than 0"),
            ("fx_transfer", {"from_account": DOLLARS}, f"{DOLLARS}, EUR, which the file"),
            ("hold", {"amount": 0}, ""),
            ("hold", {"currency": "USD"}, f"{ANN}, USD, which the file does not have so"),
            ("hold", {"credit_account": ANN}, "a hold from an account to itself"),
            ("hold", {"reference": "ho-1"}, "the reference 'ho-1' is there twice"),
            ("monitor", {"measure": "mood"}, "a monitor of 'mood'"),
            ("monitor", {"account": "wallets:nobody:EUR"}, "wallets:nobody:EUR, None, which"),
            ("period", {"month": "2026-10-02"}, "2026-10-02 begins no month"),
            ("period", {"approved_by": "staff:mara"}, "a month is closed by two people"),
            ("period", {"starts_at": "2026-10-01T02:00:00Z"}, "in this organisation's time zone"),
        ],
    )
    def test_a_wrong_line(self, file, kind, change, what):
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        number = next(n for n, line in enumerate(lines, 1) if line["type"] == kind)
        rewrite(file, number, change)

        refused(file, f"Line .*: {what}")

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"amount": 99_00}, f"{ANN} ends at -3501 available"),
            # Of what somebody owns, what leaves is a credit.
            ({"credit_account": TILL}, f"{TILL} ends at -500 available"),
        ],
    )
    def test_a_hold_that_would_break_a_floor(self, file, change, what):
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        number = next(n for n, line in enumerate(lines, 1) if line["type"] == "hold")
        rewrite(file, number, change)

        refused(file, f"The file: {what}, below its floor 0")

    def test_an_exchange_that_was_left_out(self, file):
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        [sold] = [line["sold_entry"] for line in lines if line["type"] == "fx_transfer"]
        lines = [line for line in lines if line["type"] != "fx_transfer"]
        lines[0]["fx_transfers"] = 0
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))

        refused(file, f"The file: position {sold} is of an FX transfer that it does not have")

    def test_a_text_that_postgres_has_not_anywhere(self, file):
        names = {"description", "reference", "actor", "source", "kind"}
        tried = set()
        for line in file.read_bytes().splitlines():
            given = json.loads(line)
            for name in names & given.keys():
                tried.add((given["type"], name))
                for text in (r"\u0000", r"\ud800", r"\ud800\u0041", r"\udc00x"):
                    forged = json.dumps(given | {name: "MARK"}).replace("MARK", text)
                    with pytest.raises(ValueError, match=r"surrogate|regex|truncated|JSON"):
                        journal.parse_line(forged.encode())

        assert tried >= {
            ("entry", "description"), ("entry", "reference"), ("entry", "actor"), ("entry", "kind"),
            ("fx_transfer", "source"), ("hold", "reference"), ("monitor", "description"),
        }  # fmt: skip

    @pytest.mark.parametrize(
        "metadata",
        [r'{"a": ["\u0000"]}', r'{"\u0000": ""}', r'{"a": {"\ud800": 1}}', r'{"a": "\udc00x"}',
         '{"a": 1e999}'],
    )  # fmt: skip
    def test_metadata_that_postgres_has_not_whatever_line_it_is_of(self, file, metadata):
        lines = file.read_bytes().splitlines(keepends=True)
        number, line = next(
            (number, json.loads(line)) for number, line in enumerate(lines, 1) if b'"hold"' in line
        )
        forged = json.dumps(line | {"metadata": "MARK"}).replace('"MARK"', metadata)
        lines[number - 1] = forged.encode() + b"\n"
        file.write_bytes(b"".join(lines))

        refused(file, f"Line {number}: ")

        with pytest.raises(ValueError, match="without NUL"):
            journal.parse_metadata(Raw(metadata.encode()))

    def test_metadata_may_speak_of_an_escape(self):
        assert journal.parse_metadata(Raw(rb'{"a": "\\u0000 \ud83d\ude00"}')) == {
            "a": "\\u0000 \U0001f600"
        }

    def test_a_month_that_is_there_twice(self, file):
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        [month] = [line for line in lines if line["type"] == "period"]
        lines[0]["periods"] = 2
        file.write_text("".join(json.dumps(line) + "\n" for line in [*lines, month]))

        refused(file, "Line .*: 2026-10-01 begins no month, or none after 2026-10-01")

    def test_a_line_out_of_place(self, file):
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join([*lines[:-1], lines[-1], lines[-2]]))

        refused(file, "Line .*: a line 'monitor' that should stand before this place")

    @pytest.mark.parametrize("cut", range(1, 5))
    def test_a_file_cut_short(self, file, cut):
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-cut]))

        refused(file, "The file: it has . lines")

    def test_another_time_zone(self, file):
        target = create_organization("Target")
        Organization.objects.filter(id=target).update(time_zone="Europe/Berlin")

        with pytest.raises(CommandError, match="time zone 2026-10 is not from"):
            run_import(target, file)

        assert not LedgerAccount.objects.filter(organization_id=target).exists()

    @pytest.mark.parametrize("what", ["hold", "captured", "monitor", "month"])
    def test_what_was_done_after_an_import(self, origin, file, what):
        target = create_organization("Target")
        run_import(target, file)
        wait_until(partial(closed, target))
        ids = ids_of(target)
        match what:
            case "hold":
                post(target, PlaceHold(id=new_id(), debit_account_id=ids[ANN],
                                       credit_account_id=ids[BOB], amount_minor=1,
                                       currency="EUR"))  # fmt: skip
            case "captured":
                capture(target, open_holds(target)[0].id, 0)
            case "monitor":
                monitor = BalanceMonitor.objects.filter(organization_id=target).earliest("id")
                operations.deactivate_monitor(
                    organization_id=target, monitor_id=monitor.id, actor=ACTOR, now=NOW
                )
            case "month":
                Period.objects.filter(organization_id=target).update(state="open", closed_at=None)

        with pytest.raises(CommandError, match="organization_not_empty") as refused:
            run_import(target, file)

        # And nothing that it read by is open as long as somebody remembers why it was refused.
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM pg_cursors")
            assert cursor.fetchall() == [], refused

    @pytest.mark.parametrize("what", ["holds", "balance monitors", "accounting periods"])
    def test_what_stands_as_in_the_file_before_its_last_entry(
        self, origin, file, monkeypatch, what
    ):
        """An import writes it after all entries, so it is somebody else's, however alike."""
        target = create_organization("Target")
        stop_among_entries(target, file, monkeypatch)
        ids = ids_of(target)
        match what:
            case "holds":
                first = open_holds(origin)[0]
                post(target, PlaceHold(
                    id=new_id(), debit_account_id=ids[ANN], credit_account_id=ids[BOB],
                    amount_minor=first.amount_minor, currency="EUR", reference=first.reference,
                    expires_at=first.expires_at, metadata=first.metadata,
                ))  # fmt: skip
            case "balance monitors":
                watch_as(origin, target)
            case _:
                close_month(target, OCTOBER, now=NOW)
        before = fingerprints("ledger_", "core_outbox", locks=False)

        with pytest.raises(CommandError, match=f"organization_not_empty: .* this one has {what}"):
            run_import(target, file)

        assert fingerprints("ledger_", "core_outbox", locks=False) == before


def stop_among_entries(target, file, monkeypatch) -> None:
    """Import the accounts and the first entry, and no more."""
    real, calls = _importing._post, []

    def stop_in_the_second(*values):
        calls.append(values)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*values)

    with monkeypatch.context() as stopping:
        stopping.setattr(_importing, "PORTION", 1)
        stopping.setattr(_importing, "_post", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            run_import(target, file)


def watch_as(origin, target) -> None:
    """Watch a balance as the first of the origin's active monitors does."""
    first = BalanceMonitor.objects.filter(organization_id=origin, is_active=True).earliest("id")
    terms = MonitorTerms(
        account_id=ids_of(target)[ANN], measure=MonitorMeasure(first.measure),
        direction=MonitorDirection(first.direction), threshold_minor=first.threshold_minor,
        description=first.description,
    )  # fmt: skip
    operations.create_monitor(
        organization_id=target, terms=terms, idempotency_key="m", actor=ACTOR, now=NOW
    )


class TestExport:
    def test_of_books_that_are_not_sealed_is_refused_and_leaves_no_file(
        self, origin, tmp_path, monkeypatch
    ):
        ids = ids_of(origin)
        post_transfer(origin, ids[ANN], ids[BOB], 1, key="k")
        monkeypatch.setattr(outbox, "relay_organization", lambda **_: None)

        with pytest.raises(CommandError, match="posted faster than they are sealed"):
            export(origin, tmp_path / "journal.jsonl")

        assert not (tmp_path / "journal.jsonl").exists()
