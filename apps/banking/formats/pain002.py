"""The pain.002 reader: versions 3 to 11 and the Swiss namespace, by local name."""

from apps.banking.formats import secure_xml
from apps.banking.formats._nodes import Branch, reference, refuse_too_many, text, texts
from apps.banking.formats.problems import refuse
from apps.banking.formats.secure_xml import Node
from apps.banking.formats.values import PaymentStatus, Reason, StatusReport, TransactionStatus
from apps.core.text import mask_card_numbers


def read_status_report(data: bytes, *, version: str) -> StatusReport:
    """
    Read the bank's answer to one of our files; statuses and codes are kept as sent, card numbers in
    its words masked.

    :raises UnreadableFile: if it is no such file, or its original group is missing
    """
    reader = _Reader()
    tags = ("GrpHdr", "OrgnlGrpInfAndSts", "OrgnlPmtInfAndSts", "TxInfAndSts")
    for event, node in secure_xml.events(data, tags=tags):
        if event == "end":
            reader.ends(secure_xml.local_name(node), node)
    if reader.group is None:
        raise refuse("malformed", "The report does not say what it answers (OrgnlGrpInfAndSts).")
    original_message_id, group_status, reasons = reader.group
    return StatusReport(
        version=version,
        message_id=reader.message_id,
        original_message_id=original_message_id,
        group_status=group_status,
        reasons=reasons,
        payments=tuple(reader.payments),
    )


class _Reader:
    """What was read so far, while the file streams past."""

    def __init__(self) -> None:
        self.message_id = ""
        self.group: tuple[str | None, str | None, tuple[Reason, ...]] | None = None
        self.payments: list[PaymentStatus] = []
        self._transactions: list[TransactionStatus] = []
        self._count = 0

    def ends(self, name: str, element: Node) -> None:
        node = Branch(element)
        if name in {"TxInfAndSts", "OrgnlPmtInfAndSts"}:
            self._count += 1
            refuse_too_many(transactions=self._count, line=node.line)
        if name == "GrpHdr":
            self.message_id = text(node, "MsgId") or ""
        elif name == "OrgnlGrpInfAndSts":
            self.group = (text(node, "OrgnlMsgId"), text(node, "GrpSts"), _reasons(node))
        elif name == "TxInfAndSts":
            self._transactions.append(_transaction(node))
            element.clear()
        elif name == "OrgnlPmtInfAndSts":
            self.payments.append(_payment(node, self._transactions))
            self._transactions = []


def _payment(node: Branch, transactions: list[TransactionStatus]) -> PaymentStatus:
    return PaymentStatus(
        status=text(node, "PmtInfSts"),
        payment_information_id=reference(node, "OrgnlPmtInfId"),
        reasons=_reasons(node),
        transactions=tuple(transactions),
    )


def _transaction(node: Branch) -> TransactionStatus:
    return TransactionStatus(
        status=text(node, "TxSts"),
        end_to_end_id=reference(node, "OrgnlEndToEndId"),
        instruction_id=reference(node, "OrgnlInstrId"),
        reasons=_reasons(node),
        source_line=node.line,
    )


def _reasons(node: Branch) -> tuple[Reason, ...]:
    return tuple(
        Reason(
            code=text(each, "Rsn/Cd") or text(each, "Rsn/Prtry"),
            text=mask_card_numbers(" ".join(texts(each, "AddtlInf"))),
        )
        for each in node.each("StsRsnInf")
    )
