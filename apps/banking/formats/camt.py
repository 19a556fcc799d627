"""
The camt.053 and camt.054 reader, by local name, for versions 2 and later.

Statements are read entry by entry and each entry's tree is dropped, so memory follows the values,
not the XML. The sign of an amount is the entry's CdtDbtInd alone (reconciliation.md, section 2).
"""

from datetime import date
from typing import Final

from apps.banking.formats import _camt_entry as entry_reader
from apps.banking.formats import secure_xml
from apps.banking.formats._nodes import (
    Branch,
    day,
    flag,
    number,
    refuse_too_many,
    required_amount,
    text,
)
from apps.banking.formats.problems import UnreadableFile, refuse
from apps.banking.formats.secure_xml import Node
from apps.banking.formats.values import (
    Account,
    Balance,
    CamtFile,
    Kind,
    Line,
    Statement,
    Summary,
    Total,
)

_BOOKED_BALANCES: Final = frozenset({"OPBD", "PRCD", "ITBD", "CLBD"})
_STATEMENT_TAGS: Final = {"Stmt": Kind.STATEMENT, "Ntfctn": Kind.NOTIFICATION}


def read_camt(data: bytes, *, kind: Kind, version: str) -> CamtFile:
    """
    Read every statement or notification of the file, in its order.

    :raises UnreadableFile: naming statement, entry and line
    """
    reader = _Reader(kind)
    for event, node in secure_xml.events(data, tags=("GrpHdr", "Stmt", "Ntfctn", "Ntry")):
        name = secure_xml.local_name(node)
        if event == "start":
            reader.starts(name)
        else:
            reader.ends(name, node)
    if not reader.statements:
        raise refuse("malformed", "The file holds no statement.")
    return CamtFile(
        kind=kind,
        version=version,
        message_id=reader.message_id,
        statements=tuple(reader.statements),
    )


class _Reader:
    """What was read so far, while the file streams past."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.message_id = ""
        self.statements: list[Statement] = []
        self._lines: list[Line] = []
        self._transactions = 0

    def starts(self, name: str) -> None:
        if name in _STATEMENT_TAGS:
            self._lines = []

    def ends(self, name: str, node: Node) -> None:
        if name == "GrpHdr":
            self.message_id = text(Branch(node), "MsgId") or ""
        elif name == "Ntry":
            self._entry(node)
        elif _STATEMENT_TAGS.get(name) == self.kind:
            self._statement(node)
            node.clear()

    def _entry(self, node: Node) -> None:
        parent = node.getparent()
        if parent is None or secure_xml.local_name(parent) not in _STATEMENT_TAGS:
            return
        position = len(self._lines) + 1
        self._count(node)
        try:
            self._lines.append(
                entry_reader.read_entry(Branch(node), Branch(parent), position=position)
            )
        except UnreadableFile as fault:
            raise fault.within(
                statement=text(Branch(parent), "Id") or f"number {len(self.statements) + 1}",
                entry=position,
                line=secure_xml.line_of(node),
            ) from fault
        node.clear()
        # The emptied siblings would pile up one by one in a statement of a million entries.
        while (before := node.getprevious()) is not None and before.tag == node.tag:
            parent.remove(before)

    def _count(self, node: Node) -> None:
        """Count the entry's transactions before any of them is read; without them it is one."""
        # A lump's own `Btch` counts as well: what is asked is the order of magnitude, and cheaply.
        inside = (child for child in node if secure_xml.local_name(child) == "NtryDtls")
        self._transactions += sum(len(child) for child in inside) or 1
        refuse_too_many(transactions=self._transactions, line=secure_xml.line_of(node))

    def _statement(self, node: Node) -> None:
        position = len(self.statements) + 1
        refuse_too_many(transactions=0, statements=position, line=secure_xml.line_of(node))
        try:
            self.statements.append(
                _statement(
                    Branch(node), kind=self.kind, position=position, lines=tuple(self._lines)
                )
            )
        except UnreadableFile as fault:
            raise fault.within(
                statement=text(Branch(node), "Id") or f"number {position}",
                line=secure_xml.line_of(node),
            ) from fault


def _statement(node: Branch, *, kind: Kind, position: int, lines: tuple[Line, ...]) -> Statement:
    page = text(node, "StmtPgntn/PgNb") or text(node, "NtfctnPgntn/PgNb")
    last = text(node, "StmtPgntn/LastPgInd") or text(node, "NtfctnPgntn/LastPgInd")
    return Statement(
        kind=kind,
        position=position,
        statement_id=text(node, "Id") or "",
        sequence=text(node, "ElctrncSeqNb"),
        legal_sequence=text(node, "LglSeqNb"),
        page_number=number(page) if page else None,
        is_last_page=flag(last) if last else True,
        copy_indicator=text(node, "CpyDplctInd"),
        account=_account(node),
        balances=tuple(_balances(node)) if kind == Kind.STATEMENT else (),
        lines=lines,
        summary=_summary(node),
        source_line=node.line,
    )


def _account(node: Branch) -> Account:
    identification = text(node, "Acct/Id/IBAN") or text(node, "Acct/Id/Othr/Id")
    if identification is None:
        raise refuse("malformed", "The statement names no account.", line=node.line)
    return Account(
        identification="".join(identification.split()).upper(),
        currency=text(node, "Acct/Ccy"),
        owner=text(node, "Acct/Ownr/Nm"),
        bic=text(node, "Acct/Svcr/FinInstnId/BICFI") or text(node, "Acct/Svcr/FinInstnId/BIC"),
    )


def _balances(node: Branch) -> list[Balance]:
    found = []
    for balance in node.each("Bal"):
        code = text(balance, "Tp/CdOrPrtry/Cd")
        # Available and forward balances may be in any currency, and nothing is proved by them.
        if code not in _BOOKED_BALANCES:
            continue
        amount, currency = required_amount(balance, "Amt")
        found.append(
            Balance(
                code=code,
                amount_minor=entry_reader.sign(balance) * amount,
                currency=currency,
                date=_balance_date(balance),
                source_line=balance.line,
            )
        )
    return found


def _balance_date(balance: Branch) -> date:
    found = day(balance, "Dt")
    if found is None:
        raise refuse("malformed", "A balance has no date.", line=balance.line)
    return found


def _summary(node: Branch) -> Summary | None:
    summary = node.at("TxsSummry")
    if summary is None:
        return None
    return Summary(
        all=_total(summary, "TtlNtries"),
        credits=_total(summary, "TtlCdtNtries"),
        debits=_total(summary, "TtlDbtNtries"),
        source_line=summary.line,
    )


def _total(summary: Branch, name: str) -> Total:
    count = text(summary, f"{name}/NbOfNtries")
    return Total(count=number(count) if count else None, sum_text=text(summary, f"{name}/Sum"))
