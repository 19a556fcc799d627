"""What Kassa writes the sandbox reads, and the other way round; neither knows the other's code."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from apps.banking.formats.checks import check_file
from apps.banking.formats.pain001 import Address, CreditTransfer, PaymentOrder, write
from apps.banking.formats.reading import read_bank_file
from tests.sandbox.conftest import OURS


def order(*, is_batch_booked):
    return PaymentOrder(
        message_id="KASSA-1",
        payment_information_id="KASSA-1-1",
        created_at=datetime(2026, 12, 3, 15, tzinfo=UTC),
        execution_date=date(2026, 12, 4),
        debtor_name="Example Ltd",
        debtor_iban=OURS,
        debtor_bic=None,
        debtor_address=Address(town="Berlin", country="DE"),
        is_batch_booked=is_batch_booked,
        is_instant=False,
        transfers=[
            CreditTransfer(
                instruction_id=str(number),
                end_to_end_id=f"E{number}",
                amount_minor=amount,
                creditor_name="Ada Lovelace",
                creditor_iban="FI2112345600000785",
                remittance=f"Payout {number}",
            )
            for number, amount in enumerate((100_00, 25_50, 1), start=1)
        ],
    )


@pytest.mark.parametrize("is_batch_booked", [True, False])
def test_a_payment_file_comes_back_as_rejects_debits_and_a_return(bank, is_batch_booked):
    bank.misbehave("reject", match={"end_to_end_id": "E3"}, code="AC01")
    bank.misbehave("return", match={"end_to_end_id": "E2"}, code="AC04")
    bank.post("/bank/files", write(order(is_batch_booked=is_batch_booked)))

    files = [read_bank_file(each["tree"].content) for each in bank.files()]

    report, first_notice, first, second_notice, second = files
    assert report.original_message_id == "KASSA-1"
    assert report.group_status == "PART"
    [rejected] = report.payments[0].transactions
    assert (rejected.end_to_end_id, rejected.status) == ("E3", "RJCT")
    assert rejected.reasons[0].code == "AC01"
    for camt in (first_notice, first, second_notice, second):
        checked = check_file(camt)
        assert (checked.problems, checked.warnings) == ((), ())

    [debits], [returns] = first.statements, second.statements
    assert debits.closing.amount_minor == debits.opening.amount_minor - 125_50
    assert returns.opening.amount_minor == debits.closing.amount_minor
    paid = [
        (detail.references.end_to_end_id, detail.amount_minor)
        for line in debits.lines
        for detail in line.units
    ]
    assert paid == [("E1", -100_00), ("E2", -25_50)]
    assert len(debits.lines) == (1 if is_batch_booked else 2)
    assert not any(line.is_return for line in debits.lines)
    [line] = returns.lines
    assert (line.is_return, line.amount_minor) == (True, 25_50)
    assert line.details[0].references.end_to_end_id == "E2"
    assert line.details[0].return_reason.code == "AC04"


def test_an_incoming_credit_brings_its_reference(bank):
    bank.post(
        "/bank/credits",
        {"iban": OURS, "amount": "12.50", "reference": "RF18539007547034", "name": "Ada"},
    )

    camt = read_bank_file(bank.files("camt.053")[0]["tree"].content)

    [line] = camt.statements[0].lines
    assert line.amount_minor == 12_50
    assert line.details[0].creditor_references == ("RF18539007547034",)
    assert line.details[0].counterparty.name == "Ada"
