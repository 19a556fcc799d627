"""Money moved and paid out: transfers, payouts, and the bank's answers."""

from datetime import timedelta
from uuid import UUID

import httpx

from apps.approvals import operations as approvals
from apps.approvals import queries as approval_queries
from apps.approvals.states import Verdict
from apps.backoffice.management.story.client import StepFailed, until
from apps.backoffice.management.story.plot import (
    BOB_IBAN,
    COMES_BACK,
    EUR,
    PAID_OUT,
    Customer,
    Story,
    approve,
)
from apps.core import clock
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import decode_id, encode_id
from apps.core.money import decimal_text, format_minor
from apps.payouts import operations as payouts
from apps.payouts import queries as payout_queries


def transfer(story: Story) -> None:
    teller, api = story.teller, story.api
    ada, bob = story.customers
    teller.chapter("The customers transfer to each other")
    before = story.balance(bob)["available"]
    body = {
        "debit_account": ada.account,
        "credit_account": bob.account,
        "amount": 300_00,
        "currency": EUR,
        "description": "Half of the boat",
    }
    first = api.post("/v1/transfers", body, key="transfer-1")
    again = api.post("/v1/transfers", body, key="transfer-1")
    story.check(
        f"300.00 EUR from Ada to Bob, {first['id']}; sent twice, moved once",
        holds=first["id"] == again["id"] and story.balance(bob)["available"] == before + 300_00,
    )
    back = {**body, "debit_account": bob.account, "credit_account": ada.account, "amount": 25_00}
    batch = api.post(
        "/v1/transfers/batch",
        {"mode": "independent", "transfers": [back, back, {**back, "amount": 10**12}]},
        key="batch-1",
    )
    story.check(
        "A batch of three: two posted, the third refused for funds, each with its own answer",
        holds=(batch["posted"], batch["refused"]) == (2, 1)
        and batch["outcomes"][2]["code"] == "insufficient_funds",
    )


def pay_out(story: Story) -> None:
    teller = story.teller
    ada, bob = story.customers
    teller.chapter("Two payouts: reserved, approved by a second person, sent at the cut-off")
    # The clients of this story pay each other's rent: both draw on Ada's money.
    for customer in (ada, bob):
        made = story.api.post(
            "/v1/destinations",
            {
                "customer": ada.id,
                "iban": customer.iban,
                "holder_name": customer.name,
                "currency": EUR,
            },
            key=f"destination-{customer.iban}",
        )
        customer.destination = made["id"]
        teller.fact(f"Destination {made['id']} of {customer.name}, shown as {made['iban']}")
    available = story.balance(ada)["available"]
    settles = _request(story, ada, PAID_OUT)
    returns = _request(story, bob, COMES_BACK)
    story.check(
        f"{format_minor(PAID_OUT + COMES_BACK, EUR)} are reserved",
        holds=story.balance(ada)["available"] == available - PAID_OUT - COMES_BACK,
    )
    for payout in (settles, returns):
        _approve_payout(story, payout)
    _ask_bank_to_return(story, returns)
    _send(story, settles, returns)
    _await_bank(story, settles, returns, available=available)


def _request(story: Story, customer: Customer, amount: int) -> str:
    made = story.api.post(
        "/v1/payouts",
        {
            "customer": story.customers[0].id,
            "amount": amount,
            "currency": EUR,
            "destination": customer.destination,
            "remittance": f"Payout to {customer.name}",
        },
        key=f"payout-{customer.iban}",
    )
    story.teller.fact(f"Payout {made['id']} of {format_minor(amount, EUR)}: {made['state']}")
    return str(made["id"])


def _approve_payout(story: Story, payout: str) -> None:
    payout_id = decode_id("po", payout)

    def waiting() -> UUID | None:
        open_requests = approval_queries.list_open_requests(organization_id=story.organization_id)
        return next((r.id for r in open_requests if r.subject_id == payout_id), None)

    request_id = until(waiting, f"the approval request of {payout}")
    try:
        approvals.decide_approval(
            organization_id=story.organization_id,
            request_id=request_id,
            verdict=Verdict.APPROVE,
            reason="my own request",
            idempotency_key=f"own-{request_id}",
            actor=Actor.staff(story.cast.maker.id),
            now=clock.now(),
        )
    except Refusal as refusal:
        story.teller.fact(f"Its maker may not approve it: {refusal.code}")
    else:
        msg = f"the maker of {payout} approved it"
        raise StepFailed(msg)
    approve(story, request_id, reason="checked against the contract")
    story.teller.fact(f"{payout} is approved by a second person")


def _ask_bank_to_return(story: Story, payout: str) -> None:
    """The sandbox bank is told to send the second payment back: account closed."""
    answer = httpx.post(
        f"{story.bank.url}/control",
        json={
            "behaviour": "return",
            "match": {"iban": BOB_IBAN, "amount": decimal_text(COMES_BACK, EUR)},
            "times": 1,
            "options": {"code": "AC04"},
        },
        timeout=10,
    )
    answer.raise_for_status()
    story.teller.note(f"The bank will send {payout} back: AC04, account closed.")


def _send(story: Story, *wanted: str) -> None:
    def scheduled() -> bool:
        return all(story.api.get(f"/v1/payouts/{p}")["state"] == "scheduled" for p in wanted)

    until(scheduled, "both payouts to be scheduled")
    day = story.api.get(f"/v1/payouts/{wanted[0]}")["execution_date"]
    keys = [
        key
        for key in payout_queries.list_batch_keys(until=clock.now().date() + timedelta(days=30))
        if key.organization_id == story.organization_id
    ]
    for key in keys:
        batch = payouts.freeze_batch(
            key=key, actor=Actor.staff(story.cast.maker.id), now=clock.now()
        )
        if batch is None:
            msg = "nothing was fit to go into the batch"
            raise StepFailed(msg)
        total = format_minor(batch.total_minor, EUR)
        story.teller.fact(
            f"Batch {encode_id('pb', batch.id)} for {day} is frozen before its cut-off:"
            f" {batch.attempt_count} payments, {total}"
        )
        _release(story, batch.id)

    def submitted() -> bool:
        states = [story.api.get(f"/v1/payouts/{p}")["state"] for p in wanted]
        return all(state not in {"scheduled", "batched"} for state in states)

    until(submitted, "the bank to take the file")
    story.teller.fact("The pain.001.001.09 file validates against the ISO schema; the bank has it")


def _release(story: Story, batch_id: UUID) -> None:
    batch = payout_queries.get_batch(organization_id=story.organization_id, batch_id=batch_id)
    if batch.state != "frozen":
        return
    payouts.release_batch(
        organization_id=story.organization_id,
        batch_id=batch_id,
        actor=Actor.staff(story.cast.approver.id),
        now=clock.now(),
    )
    story.teller.fact("It is released by the person who did not freeze it")


def _await_bank(story: Story, settles: str, returns: str, *, available: int) -> None:
    story.teller.chapter("The bank answers: one is settled, one comes back")

    def state(payout: str, wanted: str) -> bool:
        return bool(story.api.get(f"/v1/payouts/{payout}")["state"] == wanted)

    until(lambda: state(settles, "settled"), f"{settles} to be settled by a bank line", 120)
    story.teller.fact(f"{settles} is settled: the bank's statement shows it")
    until(lambda: state(returns, "returned"), f"{returns} to come back", 120)
    failure = story.api.get(f"/v1/payouts/{returns}")["failure"]
    story.teller.fact(f"{returns} is returned: {failure['code']}, {failure['bank_code']}")
    ada = story.customers[0]
    story.check(
        f"{format_minor(COMES_BACK, EUR)} are available again; {format_minor(PAID_OUT, EUR)} went",
        holds=story.balance(ada)["available"] == available - PAID_OUT,
    )
