"""Every act of the ledger as whoever asks for it does, with a key: clients, two people, jobs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from uuid import UUID

from django.test import Client as Browser

from apps.approvals import operations as approvals
from apps.approvals.states import Verdict
from apps.backoffice import operations as backoffice
from apps.core import clock, outbox
from apps.core.api.fields import print_instant
from apps.core.ids import decode_id
from apps.ledger import operations, queries
from apps.ledger.operations import EntryRequest
from apps.ledger.rules import Leg
from tests.ledger.acting import ACTS, Client
from tests.ledger.factories import ACTOR, balance, close_month, committed, fund, open_account
from tests.ledger.rows import count_rows
from tests.payouts import people
from tests.support import wait_until

MAY = date(2026, 5, 1)

# How many rows an organisation has in each table, and what is posted and available on its wallets.
type Standing = tuple[dict[str, int], list[tuple[int, int]]]


@dataclass
class Act:
    """
    An act of one organisation: a call that can be pickled, and is the same request each time.

    `settle` does what jobs do after it, until nothing is left to be done.
    """

    client: Client
    call: Callable[[], object]
    settle: Callable[[], None] = lambda: None

    def standing(self) -> Standing:
        """Return what its organisation has, once nothing is left to be done."""
        self.settle()
        client = self.client
        # How far the relay came by the way is not told here.
        outbox.relay_organization(organization_id=client.organization)
        wallets = [
            balance(client.organization, id_) for id_ in (client.ann, client.bob, client.dollars)
        ]
        return count_rows(client.organization), [(one.posted, one.available) for one in wallets]


def begin(name: str) -> Act:
    """Return the act of this name in an organisation of its own, which has what it needs."""
    client = Client()
    client.begin()
    return _OTHERS[name](client) if name in _OTHERS else _asked(client, name)


@cache
def undisturbed(name: str) -> Standing:
    """Return what stands after the act of this name that was done once, with nothing in its way."""
    act = begin(name)
    act.call()
    return act.standing()


def request(method: str, path: str, body: object, token: str, key: str):
    """Make a request as a client does."""
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    browser = Browser(headers=headers)
    return getattr(browser, method)(path, body, content_type="application/json")


# --- What a client asks for ---------------------------------------------------------------------


def _post(client: Client, path: str, body: dict[str, object]) -> Act:
    return Act(client, partial(request, "post", path, body, client.token, "act"))


def _asked(client: Client, name: str) -> Act:
    return _post(client, client.path(name), _of_now(client.body(name)))


def _of_now(body: dict[str, object]) -> dict[str, object]:
    return body | {"quoted_at": print_instant(clock.now())} if "quoted_at" in body else body


def _reopen(client: Client) -> Act:
    close_month(client.organization, MAY, now=clock.now())
    return _asked(client, "periods/2026-05/reopen")


def _fx_reversal(client: Client) -> Act:
    made = client.post("/v1/fx-transfers", _of_now(client.body("fx-transfers")), key="fx").json()
    return _post(client, f"/v1/fx-transfers/{made['id']}/reversal", {})


def _monitor_called_off(client: Client) -> Act:
    made = client.post("/v1/balance-monitors", client.body("balance-monitors"), key="bm").json()
    path = f"/v1/balance-monitors/{made['id']}"
    return Act(client, partial(request, "delete", path, {}, client.token, "act"))


# --- What two people agree to -------------------------------------------------------------------


def _agreed(client: Client, approval_id: UUID, settle: Callable[[], None] | None = None) -> Act:
    call = partial(
        approvals.decide_approval,
        organization_id=client.organization, request_id=approval_id, verdict=Verdict.APPROVE,
        reason="Looked at it", idempotency_key="yes", actor=people.approver(), now=clock.now(),
    )  # fmt: skip
    return Act(client, call, settle or (lambda: None))


def _agreed_month(client: Client, verb: str, settle: Callable[[], None] | None = None) -> Act:
    path = f"/v1/periods/2026-05/{verb}"
    asked = client.post(path, {"reason": "Two agree"}, key=verb).json()
    return _agreed(client, decode_id("apr", asked["approval"]["id"]), settle)


def _agreed_close(client: Client) -> Act:
    return _agreed_month(client, "close", partial(_finish_for_sure, client.organization))


def _agreed_reopen(client: Client) -> Act:
    close_month(client.organization, MAY, now=clock.now())
    return _agreed_month(client, "reopen")


def _by_hand(client: Client, ask: Callable[..., object], **what: object) -> Act:
    asked = ask(
        organization_id=client.organization, reason="Goodwill for the delay",
        idempotency_key="ask", actor=people.staff("finance_maker"), now=clock.now(), **what,
    )  # fmt: skip
    return _agreed(client, asked.approval_id)


def _agreed_reversal(client: Client) -> Act:
    entry_id = decode_id("je", client.entry)
    return _by_hand(client, backoffice.request_reversal, entry_id=entry_id, at="now")


def _agreed_adjustment(client: Client) -> Act:
    fees = open_account(
        client.organization, "fees:f:EUR", type_="income", floor=None, internal=True
    )
    legs = (Leg(fees, 5_00, "EUR"), Leg(client.ann, -5_00, "EUR"))
    entry = EntryRequest(legs=legs, description="Goodwill")
    return _by_hand(client, backoffice.request_adjustment, entry=entry)


# --- What Kassa does by itself ------------------------------------------------------------------


def _closing(client: Client) -> UUID:
    """Have two people close May, which waits for an entry of it to be sealed."""
    organization = client.organization
    fund(organization, client.ann, 1, at=datetime(2026, 5, 20, tzinfo=UTC))

    @committed
    def freeze() -> UUID:
        period = operations.prepare_close(organization_id=organization, month=MAY, now=clock.now())
        return operations.begin_closing(
            organization_id=organization, period_id=period.id, requested_by="staff:mara",
            approved_by="staff:anton", reason="May is done", actor=ACTOR, now=clock.now(),
        ).id  # fmt: skip

    return freeze()


def _close_called_off(client: Client) -> Act:
    call = partial(
        operations.call_off_closing,
        organization_id=client.organization, period_id=_closing(client), reason="Not yet",
        idempotency_key="act", actor=ACTOR, now=clock.now(),
    )  # fmt: skip
    return Act(client, call)


def _close_finished(client: Client) -> Act:
    period_id = _closing(client)
    _seal(client.organization)
    call = partial(
        operations.finish_closing,
        organization_id=client.organization, period_id=period_id, now=clock.now(),
    )  # fmt: skip
    return Act(client, call, partial(_finish_for_sure, client.organization))


def _finish_for_sure(organization: UUID) -> None:
    def closed() -> bool:
        period = queries.find_period(organization_id=organization, month=MAY)
        if period is None or period.state != "closing":
            return True
        operations.finish_closing(
            organization_id=organization, period_id=period.id, now=clock.now()
        )
        return False

    # What others do on this server may hold it up for a moment.
    wait_until(closed)


def _holds_expired(client: Client) -> Act:
    soon = print_instant(clock.now() + timedelta(minutes=1))
    client.post("/v1/holds", client.moved(1_00, expires_at=soon), key="hold")
    call = partial(
        operations.expire_holds,
        organization_id=client.organization, now=clock.now() + timedelta(hours=1),
    )  # fmt: skip
    return Act(client, call)


def _seal(organization: UUID) -> None:
    outbox.relay_organization(organization_id=organization)
    while operations.seal_entries(organization_id=organization, now=clock.now()):
        pass


def _entries_sealed(client: Client) -> Act:
    outbox.relay_organization(organization_id=client.organization)
    return Act(
        client,
        partial(operations.seal_entries, organization_id=client.organization, now=clock.now()),
    )


_OTHERS: dict[str, Callable[[Client], Act]] = {
    "periods/2026-05/reopen": _reopen,
    "fx reversal": _fx_reversal,
    "monitor called off": _monitor_called_off,
    "close agreed to": _agreed_close,
    "reopening agreed to": _agreed_reopen,
    "reversal agreed to": _agreed_reversal,
    "adjustment agreed to": _agreed_adjustment,
    "close called off": _close_called_off,
    "close finished": _close_finished,
    "holds expired": _holds_expired,
    "entries sealed": _entries_sealed,
}
OF_ALL = tuple(dict.fromkeys((*ACTS, *_OTHERS)))
