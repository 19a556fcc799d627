"""Writing the bank's status report (pain.002.001.10, or .03 for older readers)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox import iso_xml as xml

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

    from sandbox.pain001 import Payment, PaymentFile

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:pain.002.001.{}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the bank decided of a file; the codes are ISO status reasons, empty for accepted."""

    group_code: str = ""
    payment_codes: Mapping[str, str] = field(default_factory=dict)
    transfer_codes: Mapping[str, str] = field(default_factory=dict)

    def accepts(self, payment: Payment) -> bool:
        """Say whether the payment block as a whole was taken."""
        return not self.group_code and payment.payment_id not in self.payment_codes


def report(
    file: PaymentFile, verdict: Verdict, *, id_: str, created_at: dt.datetime, version: str
) -> bytes:
    """Write the report; only what was rejected is listed, as most banks do."""
    root = xml.document(NAMESPACE.format(version))
    body = xml.put(root, "CstmrPmtStsRpt")
    xml.put(body, "GrpHdr/MsgId", id_)
    xml.put(body[0], "CreDtTm", created_at.strftime("%Y-%m-%dT%H:%M:%SZ"))
    group = xml.put(body, "OrgnlGrpInfAndSts")
    xml.put(group, "OrgnlMsgId", file.message_id)
    xml.put(group, "OrgnlMsgNmId", file.message_name)
    xml.put(group, "GrpSts", _group_status(file, verdict))
    _reason(group, verdict.group_code)
    if not verdict.group_code:
        for payment in file.payments:
            _payment(body, payment, verdict)
    return xml.serialize(root)


def _group_status(file: PaymentFile, verdict: Verdict) -> str:
    if verdict.group_code:
        return "RJCT"
    statuses = {_payment_status(payment, verdict) for payment in file.payments}
    return statuses.pop() if len(statuses) == 1 else "PART"


def _payment_status(payment: Payment, verdict: Verdict) -> str:
    if not verdict.accepts(payment):
        return "RJCT"
    rejected = [each.end_to_end_id in verdict.transfer_codes for each in payment.transfers]
    if not any(rejected):
        return "ACTC"
    return "RJCT" if all(rejected) else "PART"


def _payment(body: Element, payment: Payment, verdict: Verdict) -> None:
    block = xml.put(body, "OrgnlPmtInfAndSts")
    xml.put(block, "OrgnlPmtInfId", payment.payment_id)
    xml.put(block, "PmtInfSts", _payment_status(payment, verdict))
    _reason(block, verdict.payment_codes.get(payment.payment_id, ""))
    if not verdict.accepts(payment):
        return
    for transfer in payment.transfers:
        code = verdict.transfer_codes.get(transfer.end_to_end_id)
        if code is None:
            continue
        line = xml.put(block, "TxInfAndSts")
        if transfer.instruction_id:
            xml.put(line, "OrgnlInstrId", transfer.instruction_id)
        xml.put(line, "OrgnlEndToEndId", transfer.end_to_end_id)
        xml.put(line, "TxSts", "RJCT")
        _reason(line, code)


def _reason(parent: Element, code: str) -> None:
    if code:
        reason = xml.put(parent, "StsRsnInf")
        xml.put(reason, "Rsn/Cd", code)
        xml.put(reason, "AddtlInf", f"Rejected by the sandbox bank: {code}")
