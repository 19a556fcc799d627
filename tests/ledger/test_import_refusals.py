"""Journals that are not imported: what stands beside their entries is wrong, or not theirs."""

import json
from functools import partial

import pytest
from django.core.management import CommandError
from django.db import connection
from msgspec import Raw

from apps.accounts.models import Organization
from apps.core.ids import new_id
from apps.ledger import operations, queries
from apps.ledger.formats import journal
from apps.ledger.models import (
    BalanceMonitor,
    LedgerAccount,
    Period,
)
from apps.ledger.operations import MonitorTerms
from apps.ledger.rules import MonitorDirection, MonitorMeasure, PlaceHold
from tests.ledger.beside_entries import (
    ANN,
    BOB,
    DOLLARS,
    OCTOBER,
    TILL,
    capture,
    closed,
    create_origin,
    ids_of,
    open_holds,
)
from tests.ledger.factories import (
    ACTOR,
    NOW,
    close_month,
    create_organization,
    open_account,
    post,
)
from tests.ledger.journals import export, import_one_more, refused, rewrite, run_import
from tests.ledger.rows import fingerprints
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def origin():
    return create_origin()


@pytest.fixture
def file(origin, tmp_path):
    return export(origin, tmp_path / "journal.jsonl")


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
            ("period", {"closings": 2**31 - 1}, r"Expected `int` <= 1000000 - at `\$.closings`"),
            ("period", {"closings": 1_000_001, "state": "open"}, "Expected `int` <= 1000000"),
            ("period", {"closings": 0}, "Expected `int` >= 1"),
            ("period", {"state": "closing"}, ""),
            ("period", {"reopening_reason": "x"}, "2026-10-01 is closed, and says who opened it"),
            ("period", {"state": "open", "reopening_reason": "x"}, "a month is opened again by"),
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

    @pytest.mark.parametrize(
        "odd", [{"code": ANN}, {"code": "gifts:none:EUR"}], ids=["not empty", "reserved for"]
    )
    def test_an_account_that_is_closed_and_not_empty(self, origin, tmp_path, odd):
        gifts = open_account(origin, "gifts:none:EUR")
        [ann] = LedgerAccount.objects.filter(organization_id=origin, code=ANN)
        post(origin, PlaceHold(
            id=new_id(), debit_account_id=ann.id, credit_account_id=gifts, currency="EUR",
            amount_minor=1,
        ))  # fmt: skip
        file = export(origin, tmp_path / "closed.jsonl")
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        number = next(n for n, line in enumerate(lines, 1) if line.get("code") == odd["code"])
        rewrite(file, number, {"status": "closed"})

        refused(file, f"The file: {odd['code']} is closed, and something is left or reserved on it")

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

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"account": BOB}, "The file: a trial balance that was stored does not balance"),
            (
                {"account": BOB, "opening": 1, "debits": 0, "credits": 1},
                "The file: a trial balance that was stored does not balance",
            ),
            ({"debits": 1, "credits": 0}, "Line .*: closing 1 of 2026-10-01 has .* twice"),
            ({"account": "wallets:nobody:EUR"}, "Line .*: wallets:nobody:EUR, None, which"),
            ({"month": "2026-11-01"}, "Line .*: 2026-11-01 is not open again after its closing 1"),
            ({"closing": 2}, "Line .*: 2026-10-01 is not open again after its closing 2"),
            ({"debits": -1}, "Line .*: "),
        ],
    )
    def test_what_was_not_stored_of_a_month_that_is_open_again(self, file, change, what):
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        [month] = [line for line in lines if line["type"] == "period"]
        month["state"] = "open"
        kept = {
            "type": "period_balance", "month": "2026-10-01", "closing": 1, "account": ANN,
            "opening": 0, "debits": 1, "credits": 0,
        }  # fmt: skip
        lines[0]["period_balances"] = 2
        lines += [kept, kept | change]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))

        refused(file, what)

    @pytest.mark.parametrize("state", ["closed", "open"])
    def test_as_many_closings_as_a_file_may_say_leave_the_month_one_that_closes(self, file, state):
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        number = next(n for n, line in enumerate(lines, 1) if line["type"] == "period")
        rewrite(file, number, {"closings": 1_000_000, "state": state})
        target = create_organization("Target")

        run_import(target, file)

        if state == "open":
            close_month(target, OCTOBER, now=NOW)
        wait_until(partial(closed, target))
        [period] = queries.periods(organization_id=target)
        assert period.closings == 1_000_000 + (state == "open")

    def test_a_month_that_is_closed_after_one_that_is_open_again(self, file):
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        [month] = [line for line in lines if line["type"] == "period"]
        later = {"month": "2026-11-01", "starts_at": month["ends_at"]}
        lines[0]["periods"] = 2
        lines.append(month | later | {"ends_at": "2026-12-01T00:00:00Z"})
        month["state"] = "open"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))

        refused(file, "Line .*: 2026-11-01 is closed, and a month before it is open again")

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
                Period.objects.filter(organization_id=target).update(
                    state="open", closed_at=None, reopening_requested_by="staff:mara",
                    reopening_approved_by="staff:ben", reopening_reason="A late invoice",
                )  # fmt: skip

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
        import_one_more(target, file, monkeypatch)
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
