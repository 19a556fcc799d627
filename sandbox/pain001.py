"""Reading a customer's credit transfer initiation (pain.001)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox import amounts
from sandbox import iso_xml as xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One instruction to pay; the amount is in minor units and positive."""

    instruction_id: str
    end_to_end_id: str
    amount_minor: int
    currency: str
    creditor_name: str
    creditor_account: str
    text: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class Payment:
    """One payment information block: transfers from one account on one day."""

    payment_id: str
    execution_date: dt.date
    is_booked_as_one: bool
    debtor_name: str
    debtor_account: str
    transfers: tuple[Transfer, ...]


@dataclass(frozen=True, kw_only=True)
class PaymentFile:
    """A whole pain.001, with the counts its header claims."""

    message_id: str
    message_name: str
    claimed_count: int
    claimed_sum: str
    payments: tuple[Payment, ...]

    @property
    def adds_up(self) -> bool:
        """Say whether the header's count and sum are those of the transfers."""
        transfers = [transfer for payment in self.payments for transfer in payment.transfers]
        currency = transfers[0].currency if transfers else "EUR"
        total = sum(transfer.amount_minor for transfer in transfers)
        return self.claimed_count == len(transfers) and (
            not self.claimed_sum or amounts.to_minor(self.claimed_sum, currency=currency) == total
        )


def read(content: bytes) -> PaymentFile:
    """
    Read a pain.001 of any version by its local names.

    :raises Unreadable: if the bytes are no such file
    """
    root = xml.parse(content)
    namespace = root.tag.partition("}")[0].removeprefix("{")
    bodies = xml.find_all(root, "CstmrCdtTrfInitn")
    if not bodies:
        raise xml.Unreadable("this is no pain.001")
    try:
        return PaymentFile(
            message_id=_required(bodies[0], "GrpHdr/MsgId"),
            message_name=namespace.rpartition(":")[2],
            claimed_count=int(_required(bodies[0], "GrpHdr/NbOfTxs")),
            claimed_sum=xml.text_of(bodies[0], "GrpHdr/CtrlSum"),
            payments=tuple(_payment(each) for each in xml.find_all(bodies[0], "PmtInf")),
        )
    except ValueError as error:
        raise xml.Unreadable(str(error)) from error


def _payment(block: Element) -> Payment:
    day = xml.text_of(block, "ReqdExctnDt/Dt") or xml.text_of(block, "ReqdExctnDt")
    return Payment(
        payment_id=_required(block, "PmtInfId"),
        execution_date=dt.date.fromisoformat(day[:10]),
        is_booked_as_one=xml.text_of(block, "BtchBookg") in {"true", "1"},
        debtor_name=xml.text_of(block, "Dbtr/Nm"),
        debtor_account=_account(block, "DbtrAcct"),
        transfers=tuple(_transfer(each) for each in xml.find_all(block, "CdtTrfTxInf")),
    )


def _transfer(block: Element) -> Transfer:
    amount = next(iter(xml.find_all(block, "Amt/InstdAmt")), None)
    if amount is None or "Ccy" not in amount.attrib:
        raise ValueError("Amt/InstdAmt is missing, or has no currency")
    currency = amount.attrib["Ccy"]
    return Transfer(
        instruction_id=xml.text_of(block, "PmtId/InstrId"),
        end_to_end_id=_required(block, "PmtId/EndToEndId"),
        amount_minor=amounts.to_minor(amount.text or "", currency=currency),
        currency=currency,
        creditor_name=xml.text_of(block, "Cdtr/Nm"),
        creditor_account=_account(block, "CdtrAcct"),
        text=xml.text_of(block, "RmtInf/Ustrd"),
        reference=xml.text_of(block, "RmtInf/Strd/CdtrRefInf/Ref"),
    )


def _account(block: Element, path: str) -> str:
    number = xml.text_of(block, f"{path}/Id/IBAN") or xml.text_of(block, f"{path}/Id/Othr/Id")
    if not number:
        raise ValueError(f"{path} has no account number")
    return number


def _required(block: Element, path: str) -> str:
    text = xml.text_of(block, path)
    if not text:
        raise ValueError(f"{path} is missing")
    return text
