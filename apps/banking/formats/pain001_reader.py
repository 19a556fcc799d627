"""
The second reader: what a written payment file really says, read from its bytes alone.

It shares nothing with the writer but the namespace, so a mistake there shows here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from apps.banking.formats import secure_xml
from apps.banking.formats._nodes import Branch, number, required_amount, text
from apps.banking.formats.amounts import minor
from apps.banking.formats.pain001 import CURRENCY, PaymentOrder
from apps.banking.formats.problems import refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenPayments:
    """Counted again from the bytes; `payments` is EndToEndId to (minor units, IBAN)."""

    message_id: str
    payment_information_id: str
    stated_count: int
    stated_sum_minor: int
    payments: Mapping[str, tuple[int, str]]

    @property
    def count(self) -> int:
        return len(self.payments)

    @property
    def sum_minor(self) -> int:
        return sum(amount for amount, _iban in self.payments.values())


def read_back(data: bytes) -> WrittenPayments:
    """
    Read a pain.001 file's payments.

    :raises UnreadableFile: if it is none, or repeats an EndToEndId
    """
    payments: dict[str, tuple[int, str]] = {}
    heads: list[tuple[str, int, int]] = []
    for event, node in secure_xml.events(data, tags=("GrpHdr", "PmtInf", "CdtTrfTxInf")):
        if event == "start":
            continue
        name = secure_xml.local_name(node)
        if name == "CdtTrfTxInf":
            end_to_end_id, amount, iban = _payment(Branch(node))
            if end_to_end_id in payments:
                raise refuse("payment_unfit", "Two payments share an EndToEndId.")
            payments[end_to_end_id] = (amount, iban)
            node.clear()
        elif name in {"GrpHdr", "PmtInf"}:
            heads.append(_head(Branch(node), "MsgId" if name == "GrpHdr" else "PmtInfId"))
    if len(heads) != 2 or heads[0][1:] != heads[1][1:]:  # noqa: PLR2004
        raise refuse("payment_unfit", "Header and payment block do not state the same sums.")
    return WrittenPayments(
        message_id=heads[0][0],
        payment_information_id=heads[1][0],
        stated_count=heads[0][1],
        stated_sum_minor=heads[0][2],
        payments=payments,
    )


def differences(order: PaymentOrder, written: WrittenPayments) -> list[str]:
    """Return what the bytes say otherwise than the rows, in words without bank details."""
    expected = {
        transfer.end_to_end_id: (transfer.amount_minor, transfer.creditor_iban)
        for transfer in order.transfers
    }
    found = [
        f"{label}: {says} in the file, {rows} in the rows"
        for label, says, rows in (
            ("message id", written.message_id, order.message_id),
            ("payment id", written.payment_information_id, order.payment_information_id),
            ("count", written.count, len(order.transfers)),
            ("stated count", written.stated_count, len(order.transfers)),
            ("sum", written.sum_minor, order.total_minor),
            ("stated sum", written.stated_sum_minor, order.total_minor),
        )
        if says != rows
    ]
    return found + [
        f"payment {end_to_end_id} differs"
        for end_to_end_id in sorted(expected.keys() | written.payments.keys())
        if expected.get(end_to_end_id) != written.payments.get(end_to_end_id)
    ]


def _head(node: Branch, id_name: str) -> tuple[str, int, int]:
    return (
        text(node, id_name) or "",
        number(text(node, "NbOfTxs") or ""),
        minor(text(node, "CtrlSum") or "", CURRENCY),
    )


def _payment(node: Branch) -> tuple[str, int, str]:
    amount, currency = required_amount(node, "Amt/InstdAmt")
    end_to_end_id = text(node, "PmtId/EndToEndId")
    iban = text(node, "CdtrAcct/Id/IBAN")
    if end_to_end_id is None or iban is None or currency != CURRENCY:
        raise refuse("payment_unfit", "A payment lacks id, account or the currency EUR.")
    return end_to_end_id, amount, iban
