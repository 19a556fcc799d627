"""Statements made for a test: only what it says differs from a plain, right one."""

from dataclasses import dataclass, field
from datetime import date
from xml.sax.saxutils import escape

IBAN = "DE89370400440532013000"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One booked entry; `amount` in whole minor units, positive is a credit."""

    amount: int
    reference: str | None = None
    text: str | None = None
    end_to_end_id: str | None = None
    account_servicer_ref: str | None = None
    status: str = "BOOK"
    currency: str = "EUR"
    day: date | None = None
    name: str = "Ada Lovelace"
    iban: str = "FI2112345600000785"
    extra: str = ""
    returned: str | None = None
    message_id: str | None = None
    payment_information_id: str | None = None
    details: str | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """What one statement of the file says."""

    entries: tuple[Entry, ...] = field(default_factory=tuple)
    opening: int | None = 0
    closing: int | None = None
    iban: str = IBAN
    statement_id: str = "STMT-1"
    sequence: str = "1"
    day: date = date(2026, 3, 2)
    currency: str | None = "EUR"
    balance_currency: str | None = None
    page: tuple[int, bool] | None = None
    summary: str = ""
    codes: tuple[str, str] = ("OPBD", "CLBD")


def decimal(minor):
    return f"{abs(minor) // 100}.{abs(minor) % 100:02d}"


def side(minor):
    return "DBIT" if minor < 0 else "CRDT"


def camt053(*made, version="08", message_id="MSG-1"):
    statements = "".join(_statement(each, "Stmt", version) for each in made)
    return _document("camt.053", version, "BkToCstmrStmt", message_id, statements)


def camt054(*made, version="08", message_id="MSG-1"):
    statements = "".join(_statement(each, "Ntfctn", version) for each in made)
    return _document("camt.054", version, "BkToCstmrDbtCdtNtfctn", message_id, statements)


def _document(kind, version, element, message_id, body):
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:{kind}.001.{version}"><{element}>\n'
        f"<GrpHdr><MsgId>{message_id}</MsgId><CreDtTm>2026-03-03T06:00:00Z</CreDtTm></GrpHdr>\n"
        f"{body}</{element}></Document>\n"
    ).encode()


def _statement(made, tag, version):
    opening = made.opening
    closing = made.closing
    if closing is None and opening is not None:
        closing = opening + sum(each.amount for each in made.entries if each.status == "BOOK")
    currency = made.balance_currency or made.currency or "EUR"
    balances = (
        ""
        if tag == "Ntfctn"
        else "".join(
            _balance(code, amount, currency, made.day)
            for code, amount in zip(made.codes, (opening, closing), strict=True)
            if amount is not None
        )
    )
    page = (
        f"<StmtPgntn><PgNb>{made.page[0]}</PgNb>"
        f"<LastPgInd>{str(made.page[1]).lower()}</LastPgInd></StmtPgntn>"
        if made.page
        else ""
    )
    account_currency = f"<Ccy>{made.currency}</Ccy>" if made.currency else ""
    return (
        f"<{tag}><Id>{made.statement_id}</Id>{page}<ElctrncSeqNb>{made.sequence}</ElctrncSeqNb>\n"
        f"<CreDtTm>2026-03-03T06:00:00Z</CreDtTm>\n"
        f"<Acct><Id><IBAN>{made.iban}</IBAN></Id>{account_currency}</Acct>\n"
        f"{balances}{made.summary}"
        f"{''.join(_entry(each, made, version) for each in made.entries)}</{tag}>\n"
    )


def _balance(code, amount, currency, day):
    return (
        f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp>"
        f'<Amt Ccy="{currency}">{decimal(amount)}</Amt><CdtDbtInd>{side(amount)}</CdtDbtInd>'
        f"<Dt><Dt>{day.isoformat()}</Dt></Dt></Bal>\n"
    )


def _entry(entry, made, version):
    day = (entry.day or made.day).isoformat()
    status = (
        f"<Sts><Cd>{entry.status}</Cd></Sts>" if version > "04" else f"<Sts>{entry.status}</Sts>"
    )
    servicer = (
        f"<AcctSvcrRef>{entry.account_servicer_ref}</AcctSvcrRef>"
        if entry.account_servicer_ref
        else ""
    )
    reversal = "<RvslInd>true</RvslInd>" if entry.returned else ""
    subfamily = "RRTN" if entry.returned else "ESCT"
    return (
        f'<Ntry><Amt Ccy="{entry.currency}">{decimal(entry.amount)}</Amt>'
        f"<CdtDbtInd>{side(entry.amount)}</CdtDbtInd>{reversal}{status}"
        f"<BookgDt><Dt>{day}</Dt></BookgDt><ValDt><Dt>{day}</Dt></ValDt>{servicer}"
        f"<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>RCDT</Cd><SubFmlyCd>{subfamily}</SubFmlyCd></Fmly>"
        f"</Domn></BkTxCd>{entry.extra}<NtryDtls>{_batch(entry)}"
        f"{entry.details if entry.details is not None else _detail(entry, version)}"
        "</NtryDtls></Ntry>\n"
    )


def _batch(entry):
    if not (entry.message_id or entry.payment_information_id):
        return ""
    message = f"<MsgId>{entry.message_id}</MsgId>" if entry.message_id else ""
    payment = (
        f"<PmtInfId>{entry.payment_information_id}</PmtInfId>"
        if entry.payment_information_id
        else ""
    )
    return f"<Btch>{message}{payment}</Btch>"


def _detail(entry, version):
    end_to_end = (
        f"<Refs><EndToEndId>{entry.end_to_end_id}</EndToEndId></Refs>"
        if entry.end_to_end_id
        else ""
    )
    party = "Dbtr" if entry.amount > 0 and not entry.returned else "Cdtr"
    name = f"<Nm>{escape(entry.name)}</Nm>"
    wrapped = f"<Pty>{name}</Pty>" if version > "07" else name
    structured = (
        f"<Strd><CdtrRefInf><Ref>{entry.reference}</Ref></CdtrRefInf></Strd>"
        if entry.reference
        else ""
    )
    text = f"<Ustrd>{escape(entry.text)}</Ustrd>" if entry.text else ""
    remittance = f"<RmtInf>{text}{structured}</RmtInf>" if text or structured else ""
    returned = f"<RtrInf><Rsn><Cd>{entry.returned}</Cd></Rsn></RtrInf>" if entry.returned else ""
    return (
        f"<TxDtls>{end_to_end}<RltdPties><{party}>{wrapped}</{party}><{party}Acct><Id>"
        f"<IBAN>{entry.iban}</IBAN></Id></{party}Acct></RltdPties>{remittance}{returned}</TxDtls>"
    )
