"""What is too much for a file: refused before its first byte, in words, and noted as that."""

import csv
import gc
import io
import re
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from html import unescape

import pytest

from apps.core import clock, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent
from apps.ledger import operations
from apps.ledger.errors import ExportTooLarge, ExportTooSlow
from apps.ledger.operations import StatementTerms, TrialBalanceTerms, _file_export
from tests.accounts import factories as accounts
from tests.backoffice.books import JUNE, House
from tests.ledger.factories import move, post
from tests.ledger.test_periods import a_connection
from tests.ledger.threads import Asking, is_waiting, sql
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    house = House()
    house.client = House.signed_in(accounts.create_staff("finance_maker"))
    return house


def statement(house, **fields):
    """Take out June of the first customer: two lines, of which one is a transfer."""
    path = f"ledgeraccount/{encode_id('la', house.ann)}/act/export/"
    return _posted(house, path, period="2026-06", clock="effective", **fields)


def trial_balance(house, **fields):
    """Take out how all accounts stand: four lines, of which two are of customers."""
    return _posted(house, "ledgeraccount/act/trial-balance/", organization=str(house.id), **fields)


def _posted(house, path, **fields):
    sent = {"reason": "For the auditors", "form_token": str(new_id())}
    return house.client.post(f"/admin/ledger/{path}", sent | fields)


def refusal(answer) -> str:
    """Return what a refused act's page says."""
    assert answer.status_code == 422
    [said] = re.findall(r'class="k-refusal" role="alert"><b>(.*?)</b>', answer.content.decode())
    return unescape(said)


def rows(answer) -> list[list[str]]:
    assert answer.status_code == 200
    return list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))


def noted() -> list[dict]:
    return [row.after for row in AuditEvent.objects.filter(act="core.export").order_by("id")]


class TestAFileOfMoreRowsThanOneMayHave:
    def test_may_have_fifty_thousand(self):
        assert _file_export.ROWS_MAX == 50_000

    @pytest.mark.parametrize(
        ("take", "most", "instead"),
        [
            (
                statement, 1,
                "Narrow it to one kind; manage.py export_journal writes the whole journal.",
            ),
            (
                trial_balance, 3,
                "Narrow it to a branch or a currency, or read its pages over the API.",
            ),
        ],
        ids=["a statement", "a trial balance"],
    )  # fmt: skip
    def test_is_refused_in_words_and_noted_as_refused(
        self, house, monkeypatch, take, most, instead
    ):
        monkeypatch.setattr(_file_export, "ROWS_MAX", most)

        assert refusal(take(house)) == (
            f"There are more than {most} rows, which is the most of one file. {instead}"
        )

        begun, refused = noted()
        assert refused == {"export": begun["export"], "refused": "export_too_large"}

    @pytest.mark.parametrize(
        ("take", "most", "narrower"),
        [(statement, 1, {"kind": "fee"}), (trial_balance, 2, {"code": "customers"})],
        ids=["a statement", "a trial balance"],
    )
    def test_is_taken_out_whole_when_it_is_narrowed(self, house, monkeypatch, take, most, narrower):
        monkeypatch.setattr(_file_export, "ROWS_MAX", most)
        refusal(take(house))

        taken = rows(take(house, **narrower))

        assert sum("customers" in row[1] or "fee" in row for row in taken[2:]) == most
        assert taken[-1][0] == "rows"
        assert "sha256" in noted()[-1]

    def test_disturbs_nobody_whenever_its_refusal_is_forgotten(self, house, monkeypatch):
        """What was read of it is thrown away then, in the middle of what others do there."""
        monkeypatch.setattr(_file_export, "ROWS_MAX", 3)
        with pytest.raises(ExportTooLarge) as refused:
            begun(house, "trial balance")()

        with transactions.snapshot():
            assert sql("SELECT 1") == [(1,)]
            del refused
            gc.collect()
            assert sql("SELECT 2") == [(2,)]


@contextmanager
def locked_balances():
    """Another connection keeps every reader from the balances, and may write them meanwhile."""
    with a_connection() as other:
        other.execute("LOCK TABLE ledger_balance IN ACCESS EXCLUSIVE MODE")
        yield other


def begun(house, kind):
    """Begin an export; return the call that writes it."""
    asked = {
        "organization_id": house.id, "reason": "For the auditors", "idempotency_key": str(new_id()),
        "actor": Actor.staff(house.maker.pk), "now": clock.now(),
    }  # fmt: skip
    if kind == "trial balance":
        export = operations.begin_trial_balance_export(**asked, terms=TrialBalanceTerms())
        return partial(operations.write_trial_balance_export, export)
    terms = StatementTerms(period="2026-06", since=JUNE.replace(day=1), until=JUNE.replace(month=7))
    export = operations.begin_statement_export(**asked, account_id=house.ann, terms=terms)
    return partial(operations.write_statement_export, export)


@pytest.mark.parametrize("kind", ["statement", "trial balance"])
class TestAFileThatIsRead:
    @pytest.mark.parametrize("limit", ["statement_timeout", "transaction_timeout"])
    def test_for_longer_than_a_request_may_is_refused_and_noted_as_that(self, house, kind, limit):
        write = begun(house, kind)
        with locked_balances():
            sql(f"SET {limit} = '200ms'")
            try:
                with pytest.raises(ExportTooSlow, match=r"longer than one request may\. Narrow"):
                    write()
            finally:
                sql(f"RESET {limit}")

        first, last = noted()
        assert last == {"export": first["export"], "refused": "export_too_slow"}

    def test_says_as_of_when_and_nothing_later_is_in_it(self, house, kind):
        """Its instant is that of its snapshot: after it was begun, before what it waits for."""
        write = begun(house, kind)
        post(house.id, move(house.ann, house.fees, 1_00, effective_at=JUNE))
        [[since]] = sql("SELECT clock_timestamp()")
        with locked_balances() as other:
            writing = Asking(lambda: b"".join(write()))
            wait_until(is_waiting)
            [(until,)] = other.execute("SELECT clock_timestamp()")
            other.execute(
                "UPDATE ledger_balance SET posted_debits = posted_debits + 700,"
                " version = version + 1 WHERE id = %s",
                [house.ann],
            )
            other.commit()

        assert writing.ended().fault is None
        found = list(csv.reader(io.StringIO(writing.answer.decode())))
        [as_of] = [row[row.index("as of") + 1] for row in found if "as of" in row]
        assert since < datetime.fromisoformat(as_of) < until
        # The customer had 65.00: the fee of before is seen, and what was written then is not.
        assert any({"-64.00", "64.00"} & set(row) for row in found)
