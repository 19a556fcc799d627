"""One entry (Ntry) of a camt file and the transactions inside it."""

from datetime import date
from typing import Final

from apps.banking.formats._nodes import (
    Branch,
    amount_in,
    day,
    flag,
    number,
    reference,
    required_amount,
    text,
    texts,
)
from apps.banking.formats.problems import refuse
from apps.banking.formats.values import (
    RETURN_SUBFAMILY,
    BankCode,
    Counterparty,
    Line,
    LineDetail,
    Reason,
    References,
)

_SIGNS: Final = {"CRDT": 1, "DBIT": -1}


def read_entry(node: Branch, statement: Branch, *, position: int) -> Line:
    """
    Read the entry; `position` counts from 1.

    :raises UnreadableFile: if amount, sign or date are missing or wrong
    """
    amount, currency = required_amount(node, "Amt")
    signed = sign(node) * amount
    is_reversal = flag(text(node, "RvslInd"))
    bank_code = _bank_code(node)
    details, warnings = _details(
        node,
        entry_minor=signed,
        currency=currency,
        is_return=is_reversal or bank_code.subfamily == RETURN_SUBFAMILY,
    )
    batch_count = text(node, "NtryDtls/Btch/NbOfTxs")
    value_date = day(node, "ValDt")
    booking_date = day(node, "BookgDt") or value_date or _last_balance_date(statement)
    if booking_date is None:
        raise refuse("malformed", "The entry has no booking date.", line=node.line)
    return Line(
        position=position,
        source_line=node.line,
        entry_ref=reference(node, "NtryRef"),
        amount_minor=signed,
        currency=currency,
        booking_date=booking_date,
        value_date=value_date,
        status=text(node, "Sts/Cd") or text(node, "Sts") or "",
        is_reversal=is_reversal,
        account_servicer_ref=reference(node, "AcctSvcrRef"),
        bank_code=bank_code,
        batch=_batch(node),
        batch_count=number(batch_count) if batch_count else None,
        text=text(node, "AddtlNtryInf") or "",
        details=details,
        warnings=warnings,
    )


def sign(node: Branch) -> int:
    """Return +1 for a credit to the account, -1 for a debit."""
    found = text(node, "CdtDbtInd")
    if found not in _SIGNS:
        raise refuse("malformed", "CdtDbtInd is neither CRDT nor DBIT.", line=node.line)
    return _SIGNS[found]


def _last_balance_date(statement: Branch) -> date | None:
    return next(
        (
            day(balance, "Dt")
            for balance in statement.each("Bal")
            if text(balance, "Tp/CdOrPrtry/Cd") == "CLBD"
        ),
        None,
    )


def _bank_code(node: Branch) -> BankCode:
    return BankCode(
        domain=text(node, "BkTxCd/Domn/Cd"),
        family=text(node, "BkTxCd/Domn/Fmly/Cd"),
        subfamily=text(node, "BkTxCd/Domn/Fmly/SubFmlyCd"),
        proprietary=text(node, "BkTxCd/Prtry/Cd"),
    )


def _batch(node: Branch) -> References | None:
    message_id = reference(node, "NtryDtls/Btch/MsgId")
    payment_information_id = reference(node, "NtryDtls/Btch/PmtInfId")
    if message_id is None and payment_information_id is None:
        return None
    return References(message_id=message_id, payment_information_id=payment_information_id)


def _details(
    node: Branch, *, entry_minor: int, currency: str, is_return: bool
) -> tuple[tuple[LineDetail, ...], tuple[str, ...]]:
    nodes = node.every("NtryDtls/TxDtls")
    entry_sign = -1 if entry_minor < 0 else 1
    details, warnings = [], []
    for position, detail in enumerate(nodes, start=1):
        amount = amount_in(detail, "Amt", currency)
        if amount is None:
            amount = amount_in(detail, "AmtDtls/TxAmt/Amt", currency)
        if amount is None and len(nodes) == 1 and not _has_amount(detail):
            amount = abs(entry_minor)
        stated = text(detail, "CdtDbtInd")
        if stated is not None and _SIGNS.get(stated) != entry_sign:
            warnings.append(f"Detail {position} says {stated}; the entry's sign was taken.")
        details.append(
            _detail(
                detail,
                position=position,
                amount_minor=None if amount is None else entry_sign * amount,
                is_credit=entry_sign > 0,
                is_return=is_return,
            )
        )
    return tuple(details), tuple(warnings)


def _has_amount(detail: Branch) -> bool:
    return detail.at("Amt") is not None or detail.at("AmtDtls/TxAmt/Amt") is not None


def _detail(
    node: Branch,
    *,
    position: int,
    amount_minor: int | None,
    is_credit: bool,
    is_return: bool,
) -> LineDetail:
    bank_code = _bank_code(node)
    return_reason = _return_reason(node)
    returned = is_return or return_reason is not None or bank_code.subfamily == RETURN_SUBFAMILY
    return LineDetail(
        position=position,
        amount_minor=amount_minor,
        references=References(
            message_id=reference(node, "Refs/MsgId"),
            payment_information_id=reference(node, "Refs/PmtInfId"),
            instruction_id=reference(node, "Refs/InstrId"),
            end_to_end_id=reference(node, "Refs/EndToEndId"),
            transaction_id=reference(node, "Refs/TxId"),
            mandate_id=reference(node, "Refs/MndtId"),
            account_servicer_ref=reference(node, "Refs/AcctSvcrRef"),
        ),
        bank_code=bank_code,
        counterparty=_counterparty(node, is_credit=is_credit, is_return=returned),
        creditor_references=texts(node, "RmtInf/Strd/CdtrRefInf/Ref"),
        texts=(
            *texts(node, "RmtInf/Ustrd"),
            *texts(node, "RmtInf/Strd/AddtlRmtInf"),
            *texts(node, "AddtlTxInf"),
        ),
        return_reason=return_reason,
    )


def _counterparty(node: Branch, *, is_credit: bool, is_return: bool) -> Counterparty:
    """
    Read the other side: the debtor of a credit, the creditor of a debit.

    A return tells of the first payment, whose creditor is the other side of the credit; some banks
    turn the parties round instead, so whichever is there is taken.
    """
    sides = ("Dbtr", "Cdtr") if is_credit else ("Cdtr", "Dbtr")
    if is_return:
        first = _party(node, sides[1])
        return first if first != Counterparty() else _party(node, sides[0])
    return _party(node, sides[0])


def _party(node: Branch, side: str) -> Counterparty:
    account = text(node, f"RltdPties/{side}Acct/Id/IBAN") or text(
        node, f"RltdPties/{side}Acct/Id/Othr/Id"
    )
    return Counterparty(
        name=text(node, f"RltdPties/{side}/Nm") or text(node, f"RltdPties/{side}/Pty/Nm"),
        account="".join(account.split()).upper() if account else None,
        bic=text(node, f"RltdAgts/{side}Agt/FinInstnId/BICFI")
        or text(node, f"RltdAgts/{side}Agt/FinInstnId/BIC"),
    )


def _return_reason(node: Branch) -> Reason | None:
    found = node.at("RtrInf")
    if found is None:
        return None
    return Reason(
        code=text(found, "Rsn/Cd") or text(found, "Rsn/Prtry"),
        text=" ".join(texts(found, "AddtlInf")),
    )
