"""Books that are looked at on the screen, and who looks."""

import hashlib
import re
from datetime import UTC, date, datetime, timedelta
from html import unescape

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from apps.accounts.models import Staff
from apps.core import clock
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.core.models import AuditEvent
from apps.ledger import operations
from apps.ledger.models import Period
from tests.accounts import factories as accounts
from tests.ledger.factories import committed, create_organization, open_account
from tests.ledger.histories import Move, seal, write_history
from tests.support import wait_until

MAY = datetime(2026, 5, 31, 12, tzinfo=UTC)
JUNE = datetime(2026, 6, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)
QUERIES_MAX = 10
ROW = re.compile(r"<tr.*?</tr>", re.DOTALL)
CELL = re.compile(r"<td.*?</td>|<th scope=\"row\".*?</th>", re.DOTALL)


class House:
    """An organisation with two customers, a fee, and somebody from finance signed in."""

    def __init__(self) -> None:
        self.id = create_organization()
        self.bank = open_account(self.id, "bank:ba_1:EUR", type_="asset", floor=None)
        self.ann = open_account(self.id, "customers:ann:available:EUR", floor=None)
        self.bob = open_account(self.id, "customers:bob:available:EUR", floor=None)
        self.dollars = open_account(self.id, "customers:bob:available:USD", floor=None)
        self.fees = open_account(self.id, "fees:f:EUR", type_="income", floor=None)
        write_history(
            self.id,
            [
                Move(self.bank, self.ann, 100_00, MAY, MAY),
                Move(self.ann, self.bob, 30_00, JUNE, JUNE),
                Move(self.ann, self.fees, 5_00, JUNE, JUNE, kind="fee"),
            ],
        )
        seal(self.id)
        self.maker = accounts.create_staff("finance_maker")
        self.client = self.signed_in(self.maker)

    @staticmethod
    def signed_in(person: Staff) -> Client:
        client = Client()
        client.force_login(person)
        return client

    def page(self, path: str, **query: str) -> str:
        with CaptureQueriesContext(connection) as asked:
            answer = self.client.get(f"/admin/{path}", query)
        assert answer.status_code == 200, path
        self.asked = len(asked)
        return answer.content.decode()

    @staticmethod
    def rows(text: str) -> list[list[str]]:
        """Return the cells of every row of a page's tables but their heads, as they are read."""
        rows = [
            [
                " ".join(unescape(strip_tags(cell.replace("<wbr>", "").replace("<", " <"))).split())
                for cell in found
            ]
            for found in (CELL.findall(row) for row in ROW.findall(text))
        ]
        return [row for row in rows if row]

    @committed
    def begin(self, month: date) -> Period:
        period = operations.prepare_close(organization_id=self.id, month=month, now=clock.now())
        return operations.begin_closing(
            organization_id=self.id, period_id=period.id, requested_by=f"staff:{self.maker.pk}",
            approved_by=f"staff:{new_id()}", reason="Done", actor=Actor.job("tests"),
            now=clock.now(),
        )  # fmt: skip

    def close(self, month: date) -> Period:
        period = self.begin(month)

        def closed() -> bool:
            found = operations.finish_closing(
                organization_id=self.id, period_id=period.id, now=clock.now()
            )
            return found.state == "closed"

        wait_until(closed)
        return period


def assert_noted_to_its_end(begun: AuditEvent, written: bytes) -> None:
    """The second note of an export says what the file held that the first one began."""
    ended = AuditEvent.objects.filter(act="core.export").latest("id")
    assert ended.after["export"] == begun.after["export"]
    assert ended.after["sha256"] == hashlib.sha256(written).hexdigest()
    assert ended.after["lines"] == written.count(b"\r\n")
