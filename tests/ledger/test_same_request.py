"""What makes two requests under one key the same one: everything that is asked for."""

from datetime import timedelta
from functools import partial

import pytest

from apps.core.idempotency import IdempotencyKeyReused
from apps.ledger import operations
from apps.ledger.models import Hold, JournalEntry
from apps.ledger.operations import CaptureRequest, EntryRequest, HoldRequest, TransferRequest
from apps.ledger.rules import Leg
from tests.ledger.factories import (
    ACTOR,
    NOW,
    create_organization,
    fund,
    open_account,
    post_transfer,
)

pytestmark = pytest.mark.django_db(transaction=True)

EARLIER = NOW - timedelta(days=1)
LATER = NOW + timedelta(days=1)
COMMON = {"idempotency_key": "k", "actor": ACTOR, "now": NOW}


@pytest.fixture
def books():
    organization = create_organization()
    ann, bob, cy = (open_account(organization, f"wallets:{n}:EUR") for n in ("a", "b", "c"))
    fund(organization, ann, 1000, at=NOW - timedelta(days=9))
    return organization, ann, bob, cy


def assert_reused(ask, more) -> None:
    """Asked for again it is the same; with another term it is not, and nothing more stands."""
    ask()
    ask()
    stood = JournalEntry.objects.count(), Hold.objects.count()

    with pytest.raises(IdempotencyKeyReused):
        ask(**more)

    assert (JournalEntry.objects.count(), Hold.objects.count()) == stood


TERMS = [
    {"reference": "r"},
    {"description": "Rent"},
    {"effective_at": EARLIER},
    {"metadata": {"a": "b"}},
    {"up_to": True},
    {"force": True},
]


@pytest.mark.parametrize("more", [{"debit": "cy"}, {"credit": "cy"}, {"amount": 2}, *TERMS])
def test_a_transfer(books, more):
    organization, ann, bob, cy = books

    def ask(debit=ann, credit=bob, amount=1, **terms):
        debit, credit = (cy if account == "cy" else account for account in (debit, credit))
        post_transfer(organization, debit, credit, amount, key="k", **terms)

    assert_reused(ask, more)


@pytest.mark.parametrize("more", [*TERMS, {"linked": True}, {"mode": "independent"}])
def test_a_batch(books, more):
    organization, ann, bob, _ = books

    def ask(mode="atomic", **terms):
        common = {"debit_account_id": ann, "credit_account_id": bob, "currency": "EUR"}
        transfers = [
            TransferRequest(**common, amount_minor=1, **terms),
            TransferRequest(**common, amount_minor=1),
        ]
        operations.post_transfers(
            organization_id=organization, transfers=transfers, mode=mode, **COMMON
        )

    assert_reused(ask, more)


@pytest.mark.parametrize("more", [{"amount": 2}, *(one for one in TERMS if "up_to" not in one)])
def test_an_entry(books, more):
    organization, ann, bob, _ = books

    def ask(amount=1, **terms):
        legs = (Leg(ann, amount, "EUR"), Leg(bob, -amount, "EUR"))
        operations.post_entry(
            organization_id=organization, entry=EntryRequest(legs=legs, **terms), **COMMON
        )

    assert_reused(ask, more)


@pytest.mark.parametrize(
    "more",
    [
        {"amount_minor": 2},
        {"reference": "r"},
        {"expires_at": LATER},
        {"multi_capture": True},
        {"metadata": {"a": "b"}},
    ],
)
def test_a_hold(books, more):
    organization, ann, bob, _ = books
    terms = {
        "debit_account_id": ann, "credit_account_id": bob, "amount_minor": 1, "currency": "EUR",
    }  # fmt: skip

    def ask(**other):
        operations.place_hold(
            organization_id=organization, hold=HoldRequest(**terms | other), **COMMON
        )

    assert_reused(ask, more)


@pytest.mark.parametrize(
    "more",
    [
        {"amount_minor": 2},
        {"description": "Rent"},
        {"effective_at": EARLIER},
        {"metadata": {"a": "b"}},
    ],
)
def test_a_capture(books, more):
    organization, ann, bob, _ = books
    hold = HoldRequest(
        debit_account_id=ann, credit_account_id=bob, amount_minor=9, currency="EUR",
        multi_capture=True,
    )  # fmt: skip
    place = partial(operations.place_hold, organization_id=organization, actor=ACTOR, now=NOW)
    placed = place(hold=hold, idempotency_key="place")

    def ask(**terms):
        capture = CaptureRequest(**{"amount_minor": 1} | terms)
        operations.capture_hold(
            organization_id=organization, hold_id=placed.hold_id, capture=capture, **COMMON
        )

    assert_reused(ask, more)
