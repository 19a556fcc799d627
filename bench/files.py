"""Bank files: writing and checking our own."""

import statistics
import time
import warnings
from datetime import UTC, date, datetime
from functools import cache

from sepaxml import SepaTransfer

from apps.banking.formats.pain001 import Address, CreditTransfer, PaymentOrder, validate, write
from bench._registry import Figure, benchmark

COUNT = 10_000
ROUNDS = 3
IBAN = "DE89370400440532013000"


def _order() -> PaymentOrder:
    return PaymentOrder(
        message_id="BENCH1",
        payment_information_id="BENCH1-1",
        created_at=datetime(2026, 11, 2, 15, 0, tzinfo=UTC),
        execution_date=date(2026, 11, 3),
        debtor_name="Northwind",
        debtor_iban=IBAN,
        debtor_bic="COBADEFFXXX",
        debtor_address=Address(town="Berlin", country="DE"),
        is_batch_booked=True,
        is_instant=False,
        transfers=[
            CreditTransfer(
                instruction_id=str(n),
                end_to_end_id=f"{n:032x}",
                amount_minor=100 + n,
                creditor_name="Ann Example",
                creditor_iban=IBAN,
                remittance=f"Payout {n}",
            )
            for n in range(1, COUNT + 1)
        ],
    )


@cache
def sepaxml_seconds() -> float:
    """Return how long sepaxml takes to write and validate the same payments."""
    config = {"name": "Northwind", "IBAN": IBAN, "BIC": "COBADEFFXXX", "batch": True,
              "currency": "EUR"}  # fmt: skip
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sepa = SepaTransfer(config, schema="pain.001.001.09", clean=True)
        for n in range(1, COUNT + 1):
            sepa.add_payment(
                {
                    "name": "Ann Example",
                    "IBAN": IBAN,
                    "BIC": "COBADEFFXXX",
                    "amount": 100 + n,
                    "execution_date": date(2026, 11, 3),
                    "description": f"Payout {n}",
                    "endtoend_id": f"{n:032x}",
                }
            )
        sepa.export(validate=True)
    return time.perf_counter() - started


@benchmark
def pain001_write() -> Figure:
    """Write 10,000 payments as pain.001.001.09 and check them against the schema, in seconds."""

    def measure() -> float:
        order = _order()
        started = time.perf_counter()
        validate(write(order))
        return time.perf_counter() - started

    measure()
    value = statistics.median(measure() for _ in range(ROUNDS))
    # Judged in seconds (payouts.md, section 14); sepaxml's own time stands beside it.
    return Figure(
        name="pain001_write", value=value, unit="s", reference=sepaxml_seconds(), must=1.0, aim=0.3,
        lower_is_better=True, how=f"median of {ROUNDS} rounds of 10,000 payments after a warm-up",
    )  # fmt: skip
