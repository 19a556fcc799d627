from datetime import UTC, datetime
from functools import partial

import pytest
from django.db import IntegrityError, connection
from hypothesis import given
from hypothesis import strategies as st

from apps.banking.formats.references import make_reference
from apps.core.idempotency import IdempotencyKeyReused
from apps.core.ids import encode_id, new_id
from apps.payments import errors, operations
from apps.payments.models import VirtualReference
from apps.payments.rules import IncomingTransfer, KnownReference, decide_owner
from tests.banking.factories import ACTOR, NOW, create_organization
from tests.reconciliation.factories import create_customer, create_reference
from tests.support import race

OURS, OTHER = make_reference(1), make_reference(2)


def transfer(**more):
    return IncomingTransfer(
        **{
            "bank_line_id": new_id(),
            "bank_line_detail_id": None,
            "money_account_id": new_id(),
            "amount_minor": 100,
            "currency": "EUR",
            "received_at": datetime(2026, 3, 2, tzinfo=UTC),
            **more,
        }
    )


def known(reference=OURS, **more):
    return KnownReference(
        **{
            "id": new_id(),
            "reference": reference,
            "customer_id": new_id(),
            "ledger_account_id": new_id(),
            "currency": "EUR",
            "state": "active",
            "customer_is_open": True,
            "account_is_open": True,
            **more,
        }
    )


class TestTheOwner:
    def test_is_whose_reference_it_carries(self):
        owner = known()

        verdict = decide_owner(transfer(creditor_references=[OURS]), {OURS: owner})

        assert (verdict.owner, verdict.reason) == (owner, "")

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            ({"currency": "SEK"}, "currency_differs"),
            ({"state": "disabled"}, "reference_disabled"),
            ({"customer_is_open": False}, "customer_not_open"),
            ({"account_is_open": False}, "ledger_account_not_open"),
        ],
    )
    def test_must_be_able_to_take_it(self, more, reason):
        owner = known(**more)

        verdict = decide_owner(transfer(creditor_references=[OURS]), {OURS: owner})

        assert (verdict.owner, verdict.reason) == (None, reason)
        assert verdict.candidates == (owner.id,)

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            ({}, "no_reference"),
            ({"texts": [OTHER]}, "unknown_reference"),
            ({"texts": [f"{OURS} {OTHER}"]}, "ambiguous_reference"),
            ({"creditor_references": [OURS], "is_return": True}, "unmatched_return"),
        ],
    )
    def test_is_nobody_where_that_is_not_clear(self, more, reason):
        verdict = decide_owner(transfer(**more), {OURS: known()})

        assert (verdict.owner, verdict.reason) == (None, reason)

    @given(st.lists(st.text(max_size=40), max_size=5))
    def test_is_never_guessed(self, texts):
        verdict = decide_owner(transfer(texts=texts), {OURS: known()})

        assert verdict.owner is None or OURS[4:] in "".join("".join(texts).split())


@pytest.mark.django_db(transaction=True)
class TestCreateVirtualReference:
    def make(self, customer, key="one", **more):
        return operations.create_virtual_reference(
            **{
                "organization_id": customer.organization_id,
                "customer_id": customer.id,
                "currency": "EUR",
                "idempotency_key": key,
                "actor": ACTOR,
                "now": NOW,
                **more,
            }
        )

    def test_makes_one_for_equal_requests_at_once(self):
        customer = create_customer(create_organization())

        made = race(*[partial(self.make, customer)] * 4)

        assert len({one.reference for one in made}) == 1
        assert VirtualReference.objects.count() == 1

    def test_names_the_first_ones_to_another_request_with_its_key(self):
        customer = create_customer(create_organization())
        first = self.make(customer)

        with pytest.raises(IdempotencyKeyReused) as refused:
            self.make(customer, label="another")

        assert refused.value.details == {"resource": encode_id("vref", first.id)}
        assert VirtualReference.objects.count() == 1

    def test_opens_an_account_in_a_new_currency(self):
        customer = create_customer(create_organization())

        made = self.make(customer, currency="SEK")

        assert made.currency == "SEK"
        assert made.ledger_account_id is not None

    def test_refuses_a_frozen_customer(self):
        customer = create_customer(create_organization())
        type(customer).objects.filter(id=customer.id).update(
            state="frozen", frozen_at=NOW, frozen_by="staff:x"
        )

        with pytest.raises(errors.CustomerCannotReceive):
            self.make(customer)

        assert VirtualReference.objects.count() == 0

    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM payments_virtual_reference",
            "TRUNCATE payments_virtual_reference CASCADE",
            "UPDATE payments_virtual_reference SET customer_id = gen_random_uuid()",
            "UPDATE payments_virtual_reference SET reference = 'RF4512345'",
            """INSERT INTO payments_virtual_reference SELECT gen_random_uuid(), reference,
               currency, label, state, created_at, customer_id, ledger_account_id, organization_id
               FROM payments_virtual_reference""",
        ],
    )
    def test_is_for_ever(self, statement):
        create_reference(create_customer(create_organization()))

        with pytest.raises(IntegrityError), connection.cursor() as cursor:
            cursor.execute(statement)
