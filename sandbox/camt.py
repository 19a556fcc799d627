"""Writing camt.053.001.08 statements and camt.054.001.08 notifications."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox import amounts
from sandbox import iso_xml as xml

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from sandbox.entries import Detail, Entry

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:camt.{}.001.08"
IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")


@dataclass(frozen=True, kw_only=True)
class Account:
    """The account a statement is about."""

    number: str
    currency: str
    owner: str


@dataclass(frozen=True, kw_only=True)
class Booked:
    """What one statement reports: a day's entries between two balances, in minor units."""

    account: Account
    number: int
    day: dt.date
    opening_minor: int
    closing_minor: int
    entries: Sequence[Entry]
    created_at: dt.datetime


def statement(booked: Booked) -> bytes:
    """Write the day's statement."""
    root = xml.document(NAMESPACE.format("053"))
    body = xml.put(root, "BkToCstmrStmt")
    report = _report(body, booked, "Stmt", prefix="S")
    _balance(report, booked, "OPBD", booked.opening_minor)
    _balance(report, booked, "CLBD", booked.closing_minor)
    _summary(report, booked)
    for entry in booked.entries:
        _entry(report, booked, entry)
    return xml.serialize(root)


def notification(booked: Booked) -> bytes:
    """Write the day's debit and credit notification, which has no balances."""
    root = xml.document(NAMESPACE.format("054"))
    body = xml.put(root, "BkToCstmrDbtCdtNtfctn")
    report = _report(body, booked, "Ntfctn", prefix="N")
    _summary(report, booked)
    for entry in booked.entries:
        _entry(report, booked, entry)
    return xml.serialize(root)


def _report(body: Element, booked: Booked, name: str, *, prefix: str) -> Element:
    created = booked.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    id_ = f"{prefix}{booked.day:%Y%m%d}{booked.account.number[-14:]}{booked.number:06d}"
    xml.put(body, "GrpHdr/MsgId", id_)
    xml.put(body[0], "CreDtTm", created)
    pagination = xml.put(body[0], "MsgPgntn")
    xml.put(pagination, "PgNb", "1")
    xml.put(pagination, "LastPgInd", "true")

    report = xml.put(body, name)
    xml.put(report, "Id", id_)
    xml.put(report, "ElctrncSeqNb", str(booked.number))
    xml.put(report, "CreDtTm", created)
    period = xml.put(report, "FrToDt")
    xml.put(period, "FrDtTm", f"{booked.day}T00:00:00Z")
    xml.put(period, "ToDtTm", f"{booked.day}T23:59:59Z")
    account = xml.put(report, "Acct")
    _account_id(xml.put(account, "Id"), booked.account.number)
    xml.put(account, "Ccy", booked.account.currency)
    if booked.account.owner:
        xml.put(account, "Ownr/Nm", booked.account.owner)
    xml.put(account, "Svcr/FinInstnId/Nm", "Sandbox Bank")
    return report


def _balance(report: Element, booked: Booked, code: str, amount_minor: int) -> None:
    balance = xml.put(report, "Bal")
    xml.put(balance, "Tp/CdOrPrtry/Cd", code)
    _amount(balance, booked, amount_minor)
    xml.put(balance, "Dt/Dt", booked.day.isoformat())


def _summary(report: Element, booked: Booked) -> None:
    by_sign = {
        "TtlCdtNtries": [each.amount_minor for each in booked.entries if each.amount_minor > 0],
        "TtlDbtNtries": [-each.amount_minor for each in booked.entries if each.amount_minor < 0],
    }
    everything = [amount for group in by_sign.values() for amount in group]
    summary = xml.put(report, "TxsSummry")
    total = xml.put(summary, "TtlNtries")
    _count_and_sum(total, booked, everything)
    net = xml.put(total, "TtlNetNtry")
    net_minor = sum(entry.amount_minor for entry in booked.entries)
    xml.put(net, "Amt", _text(booked, net_minor))
    xml.put(net, "CdtDbtInd", _sign(net_minor))
    for name, group in by_sign.items():
        _count_and_sum(xml.put(summary, name), booked, group)


def _count_and_sum(parent: Element, booked: Booked, group: Sequence[int]) -> None:
    xml.put(parent, "NbOfNtries", str(len(group)))
    xml.put(parent, "Sum", _text(booked, sum(group)))


def _entry(report: Element, booked: Booked, entry: Entry) -> None:
    line = xml.put(report, "Ntry")
    _amount(line, booked, entry.amount_minor)
    if entry.is_reversal:
        xml.put(line, "RvslInd", "true")
    xml.put(line, "Sts/Cd", "BOOK")
    xml.put(line, "BookgDt/Dt", booked.day.isoformat())
    xml.put(line, "ValDt/Dt", booked.day.isoformat())
    xml.put(line, "AcctSvcrRef", entry.servicer_reference)
    _bank_code(line, entry)
    if entry.details:
        details = xml.put(line, "NtryDtls")
        if len(entry.details) > 1:
            _batch(details, booked, entry)
        for detail in entry.details:
            _detail(details, booked, entry, detail)
    if entry.text:
        xml.put(line, "AddtlNtryInf", entry.text)


def _batch(details: Element, booked: Booked, entry: Entry) -> None:
    batch = xml.put(details, "Btch")
    xml.put(batch, "MsgId", entry.message_id)
    xml.put(batch, "PmtInfId", entry.payment_id)
    xml.put(batch, "NbOfTxs", str(len(entry.details)))
    xml.put(batch, "TtlAmt", _text(booked, entry.amount_minor), Ccy=booked.account.currency)
    xml.put(batch, "CdtDbtInd", _sign(entry.amount_minor))


def _detail(details: Element, booked: Booked, entry: Entry, detail: Detail) -> None:
    block = xml.put(details, "TxDtls")
    references = xml.put(block, "Refs")
    for name, value in (
        ("MsgId", entry.message_id),
        ("AcctSvcrRef", entry.servicer_reference),
        ("PmtInfId", entry.payment_id),
        ("InstrId", detail.instruction_id),
        ("EndToEndId", detail.end_to_end_id or "NOTPROVIDED"),
    ):
        if value:
            xml.put(references, name, value)
    _amount(block, booked, detail.amount_minor)
    _bank_code(block, entry)
    _parties(block, booked, entry, detail)
    if detail.reference:
        reference = xml.put(block, "RmtInf/Strd/CdtrRefInf")
        xml.put(reference, "Tp/CdOrPrtry/Cd", "SCOR")
        xml.put(reference, "Ref", detail.reference)
    elif detail.text:
        xml.put(block, "RmtInf/Ustrd", detail.text[:140])
    if detail.return_code:
        returned = xml.put(block, "RtrInf")
        xml.put(returned, "Rsn/Cd", detail.return_code)
        if detail.return_text:
            xml.put(returned, "AddtlInf", detail.return_text[:105])


def _parties(block: Element, booked: Booked, entry: Entry, detail: Detail) -> None:
    """Name both sides: of a returned payment the same as when it was sent."""
    ours = (booked.account.owner, booked.account.number)
    theirs = (detail.counterparty_name, detail.counterparty_account)
    we_sent_it = entry.amount_minor < 0 or entry.is_reversal
    parties = xml.put(block, "RltdPties")
    for role, (name, number) in zip(
        ("Dbtr", "Cdtr"), (ours, theirs) if we_sent_it else (theirs, ours), strict=True
    ):
        if name:
            xml.put(parties, f"{role}/Pty/Nm", name[:140])
        if number:
            _account_id(xml.put(parties, f"{role}Acct/Id"), number)


def _bank_code(parent: Element, entry: Entry) -> None:
    domain = xml.put(parent, "BkTxCd/Domn")
    xml.put(domain, "Cd", "PMNT")
    family = xml.put(domain, "Fmly")
    xml.put(family, "Cd", entry.family)
    xml.put(family, "SubFmlyCd", entry.sub_family)


def _account_id(parent: Element, number: str) -> None:
    xml.put(parent, "IBAN" if IBAN.fullmatch(number) else "Othr/Id", number)


def _amount(parent: Element, booked: Booked, amount_minor: int) -> None:
    xml.put(parent, "Amt", _text(booked, amount_minor), Ccy=booked.account.currency)
    xml.put(parent, "CdtDbtInd", _sign(amount_minor))


def _text(booked: Booked, amount_minor: int) -> str:
    return amounts.to_text(abs(amount_minor), currency=booked.account.currency)


def _sign(amount_minor: int) -> str:
    return "DBIT" if amount_minor < 0 else "CRDT"
