"""A month that is closed takes nothing over the API, whatever act is dated in it."""

from datetime import UTC, date, datetime

import pytest

from apps.core import clock
from apps.core.ids import encode_id
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey
from apps.core.wall_clock import print_instant
from apps.ledger.models import JournalEntry
from tests.ledger.acting import Client
from tests.ledger.clients import code_of
from tests.ledger.factories import balance, close_month, fund, post_transfer
from tests.ledger.rows import fingerprints

pytestmark = pytest.mark.django_db(transaction=True)

IN_JUNE = datetime(2026, 6, 15, 12, tzinfo=UTC)
JULY = "2026-07-01T00:00:00Z"


class ClosedClient(Client):
    """A client whose June is closed: it has an open hold, and 5.00 moved in June."""

    def __init__(self) -> None:
        super().__init__()
        fund(self.organization, self.ann, 50_00, at=IN_JUNE)
        self.begin()
        moved = post_transfer(
            self.organization, self.ann, self.bob, 5_00, key="june", effective_at=IN_JUNE
        )
        self.of_june = encode_id("je", moved.entry_id)
        close_month(self.organization, date(2026, 6, 1), now=clock.now())
        self.quoted = print_instant(clock.now())

    def ask(self, act: str, at: str, **more: object):
        """Ask for an act that is dated at an instant of June, or by an entry of June."""
        dated: dict[str, dict[str, object]] = {
            "transfers/batch": {"transfers": [self.moved(1), self.moved(1, effective_at=at)]},
            "reversal": {"at": "original"},
            "reversals": {"at": "original", "journal_entries": [self.of_june]},
            "fx-transfers": {"effective_at": at, "quoted_at": self.quoted},
        }
        path = self.path(act).replace(self.entry, self.of_june)
        key = None if more else f"{act}@{at}"
        return self.post(
            path, self.body(act) | dated.get(act, {"effective_at": at}) | more, key=key
        )


@pytest.fixture
def api():
    return ClosedClient()


ACTS = (
    "transfers", "transfers/batch", "journal-entries", "capture", "reversal", "reversals",
    "fx-transfers",
)  # fmt: skip


class TestAClosedMonth:
    @pytest.mark.parametrize("act", ACTS)
    def test_refuses_whatever_is_dated_in_it_dry_or_real_and_nothing_moves(self, api, act):
        june = print_instant(IN_JUNE)
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        dry, real = api.ask(act, june, dry_run=True), api.ask(act, june)
        again = api.ask(act, june)

        assert [code_of(one) for one in (dry, real, again)] == [(422, "period_closed")] * 3
        assert {one.json()["period"] for one in (dry, real, again)} == {"2026-06"}
        assert again["Idempotent-Replayed"] == "true"
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before
        assert IdempotencyKey.objects.get(key=f"{act}@{june}").refusal_code == "period_closed"
        assert breaches() == []

    @pytest.mark.parametrize(
        ("last", "first"),
        [
            ("2026-06-30T23:59:59.999999Z", JULY),
            # The same two instants, where it is July already and where it is June still.
            ("2026-07-01T13:59:59.999999+14:00", "2026-07-01T14:00:00+14:00"),
            ("2026-06-30T11:59:59.999999-12:00", "2026-06-30T12:00:00-12:00"),
        ],
    )
    @pytest.mark.parametrize("act", ["transfers", "transfers/batch", "journal-entries", "capture"])
    def test_leaves_the_next_one_open_from_its_first_instant(self, api, act, last, first):
        assert code_of(api.ask(act, last)) == (422, "period_closed")
        assert api.ask(act, first).status_code in {200, 201}
        assert breaches() == []

    def test_refuses_one_of_an_independent_batch_and_the_others_are_posted(self, api):
        transfers = [api.moved(1), api.moved(2, effective_at=print_instant(IN_JUNE)), api.moved(4)]

        answer = api.post(
            "/v1/transfers/batch", {"mode": "independent", "transfers": transfers}
        ).json()

        assert [one["code"] for one in answer["outcomes"]] == [None, "period_closed", None]
        assert balance(api.organization, api.bob).posted == 5_00 + 5_00 + 1 + 4
        assert breaches() == []

    def test_has_its_entries_undone_now_and_not_then(self, api):
        path = f"/v1/journal-entries/{api.of_june}/reversal"

        then, now = (api.get(path, at=at).json() for at in ("original", "now"))
        undone = api.post(path, {})

        assert (then["reversible"], then["code"]) == (False, "period_closed")
        assert then["details"] == {"period": "2026-06"}
        assert (now["reversible"], now["code"]) == (True, None)
        assert undone.status_code == 201
        [reversal] = JournalEntry.objects.exclude(reverses_id=None)
        assert print_instant(reversal.effective_at) > JULY
        assert balance(api.organization, api.bob).posted == 5_00
        assert breaches() == []
