"""
The pain.001.001.09 writer: a pure function of frozen rows, so the same rows give the same bytes.

No clock, random number or locale takes part. What goes in is already written in the basic
character set (`characters.convert`), because what was changed is recorded with the payment; the
writer refuses the rest rather than change it silently.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Final
from xml.sax.saxutils import escape

from lxml import etree

from apps.banking.formats.characters import ALLOWED
from apps.banking.formats.problems import refuse
from apps.core.money import decimal_text

VERSION: Final = "pain.001.001.09"
NAMESPACE: Final = f"urn:iso:std:iso:20022:tech:xsd:{VERSION}"
CURRENCY: Final = "EUR"
AMOUNT_MINOR_MAX: Final = 999_999_999_99
NAME_MAX: Final = 70
REMITTANCE_MAX: Final = 140
ID_MAX: Final = 35
TRANSACTIONS_MAX: Final = 10_000

_IDENTIFIER: Final = re.compile(r"\A(?!/)(?!.*//)(?!.*/\Z)[a-zA-Z0-9/\-?:().,'+ ]{1,35}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    Structured (street, building, post code) or hybrid (at most two lines), or only a place.

    Town and country are always there: lines alone are refused since 15 November 2026 (EPC).
    """

    town: str
    country: str
    street: str | None = None
    building: str | None = None
    post_code: str | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditTransfer:
    """One instruction: its number in the file, and whom to pay how much. EUR minor units."""

    instruction_id: str
    end_to_end_id: str
    amount_minor: int
    creditor_name: str
    creditor_iban: str
    creditor_bic: str | None = None
    creditor_address: Address | None = None
    remittance: str | None = None
    creditor_reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentOrder:
    """One file, with one payment information block. `created_at` is the moment of the freeze."""

    message_id: str
    payment_information_id: str
    created_at: datetime
    execution_date: date
    debtor_name: str
    debtor_iban: str
    debtor_bic: str | None
    debtor_address: Address
    is_batch_booked: bool
    is_instant: bool
    transfers: Sequence[CreditTransfer]

    @property
    def total_minor(self) -> int:
        return sum(transfer.amount_minor for transfer in self.transfers)


def write(order: PaymentOrder) -> bytes:
    """
    Return the file, transfers in the order given.

    :raises UnreadableFile: `payment_unfit` if an id, amount, text or count may not stand in one
    """
    _refuse_order(order)
    head, tail = _head(order), "</PmtInf></CstmrCdtTrfInitn></Document>\n"
    return "".join((head, *map(_transfer, order.transfers), tail)).encode("utf-8")


def validate(data: bytes) -> None:
    """
    Check the bytes against the ISO schema.

    :raises UnreadableFile: `schema_violation` with the first place that breaks it
    """
    try:
        _schema().assertValid(etree.fromstring(data, parser=_own_parser()))
    except etree.DocumentInvalid as fault:
        raise refuse("schema_violation", f"{VERSION}: {fault}") from fault


@lru_cache(maxsize=1)
def _schema() -> etree.XMLSchema:
    # ISO's schema comes with sepaxml, which stays pinned for it (payouts.md, section 8).
    source = files("sepaxml") / "schemas" / f"{VERSION}.xsd"
    return etree.XMLSchema(etree.fromstring(source.read_bytes(), parser=_own_parser()))


def _own_parser() -> etree.XMLParser:
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)


def _refuse_order(order: PaymentOrder) -> None:
    if not 0 < len(order.transfers) <= TRANSACTIONS_MAX:
        raise refuse("payment_unfit", f"A file holds 1 to {TRANSACTIONS_MAX} payments.")
    for identifier in (order.message_id, order.payment_information_id):
        _refuse_identifier(identifier)
    _refuse_text(order.debtor_name, NAME_MAX)
    if order.created_at.utcoffset() is None:
        raise refuse("payment_unfit", "The time of the freeze has no zone.")
    seen: set[str] = set()
    for transfer in order.transfers:
        _refuse_transfer(transfer)
        if transfer.end_to_end_id in seen:
            raise refuse(
                "payment_unfit", "Two payments share an EndToEndId.", id=transfer.end_to_end_id
            )
        seen.add(transfer.end_to_end_id)


def _refuse_transfer(transfer: CreditTransfer) -> None:
    _refuse_identifier(transfer.instruction_id)
    _refuse_identifier(transfer.end_to_end_id)
    _refuse_text(transfer.creditor_name, NAME_MAX)
    if transfer.remittance is not None:
        _refuse_text(transfer.remittance, REMITTANCE_MAX)
    if not 0 < transfer.amount_minor <= AMOUNT_MINOR_MAX:
        raise refuse(
            "payment_unfit",
            "The amount is outside 0.01 to 999999999.99.",
            id=transfer.end_to_end_id,
        )


def _refuse_identifier(identifier: str) -> None:
    if not _IDENTIFIER.match(identifier):
        raise refuse("payment_unfit", "An id is no SEPA identifier.", id=identifier[:ID_MAX])


def _refuse_text(text: str, length_max: int) -> None:
    if len(text) > length_max or not ALLOWED.issuperset(text) or not text.strip(". "):
        raise refuse(
            "payment_unfit", f"A text is empty, longer than {length_max}, or not in SEPA's letters."
        )


def _head(order: PaymentOrder) -> str:
    created = order.created_at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat()
    sums = (
        f"<NbOfTxs>{len(order.transfers)}</NbOfTxs>"
        f"<CtrlSum>{decimal_text(order.total_minor, CURRENCY)}</CtrlSum>"
    )
    instrument = "<LclInstrm><Cd>INST</Cd></LclInstrm>" if order.is_instant else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Document xmlns="{NAMESPACE}"><CstmrCdtTrfInitn>'
        f"<GrpHdr><MsgId>{escape(order.message_id)}</MsgId><CreDtTm>{created}Z</CreDtTm>{sums}"
        f"<InitgPty>{_tag('Nm', order.debtor_name)}</InitgPty></GrpHdr>"
        f"<PmtInf><PmtInfId>{escape(order.payment_information_id)}</PmtInfId><PmtMtd>TRF</PmtMtd>"
        f"<BtchBookg>{'true' if order.is_batch_booked else 'false'}</BtchBookg>{sums}"
        f"<PmtTpInf><SvcLvl><Cd>SEPA</Cd></SvcLvl>{instrument}</PmtTpInf>"
        f"<ReqdExctnDt><Dt>{order.execution_date.isoformat()}</Dt></ReqdExctnDt>"
        f"<Dbtr>{_tag('Nm', order.debtor_name)}{_address(order.debtor_address)}</Dbtr>"
        f"<DbtrAcct><Id>{_tag('IBAN', order.debtor_iban)}</Id><Ccy>{CURRENCY}</Ccy></DbtrAcct>"
        f"<DbtrAgt><FinInstnId>{_agent(order.debtor_bic)}</FinInstnId></DbtrAgt>"
        "<ChrgBr>SLEV</ChrgBr>"
    )


def _transfer(transfer: CreditTransfer) -> str:
    agent = (
        f"<CdtrAgt><FinInstnId>{_agent(transfer.creditor_bic)}</FinInstnId></CdtrAgt>"
        if transfer.creditor_bic
        else ""
    )
    return (
        f"<CdtTrfTxInf><PmtId><InstrId>{escape(transfer.instruction_id)}</InstrId>"
        f"<EndToEndId>{escape(transfer.end_to_end_id)}</EndToEndId></PmtId>"
        f'<Amt><InstdAmt Ccy="{CURRENCY}">{decimal_text(transfer.amount_minor, CURRENCY)}'
        f"</InstdAmt></Amt>{agent}"
        f"<Cdtr>{_tag('Nm', transfer.creditor_name)}{_address(transfer.creditor_address)}</Cdtr>"
        f"<CdtrAcct><Id>{_tag('IBAN', transfer.creditor_iban)}</Id></CdtrAcct>"
        f"{_remittance(transfer)}</CdtTrfTxInf>"
    )


def _tag(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"


def _agent(bic: str | None) -> str:
    return _tag("BICFI", bic) if bic else "<Othr><Id>NOTPROVIDED</Id></Othr>"


def _address(address: Address | None) -> str:
    if address is None:
        return ""
    parts: Iterable[tuple[str, str | None]] = (
        ("StrtNm", address.street),
        ("BldgNb", address.building),
        ("PstCd", address.post_code),
        ("TwnNm", address.town),
        ("Ctry", address.country),
        *(("AdrLine", line) for line in address.lines),
    )
    return f"<PstlAdr>{''.join(_tag(name, text) for name, text in parts if text)}</PstlAdr>"


def _remittance(transfer: CreditTransfer) -> str:
    if transfer.creditor_reference:
        return (
            "<RmtInf><Strd><CdtrRefInf><Tp><CdOrPrtry><Cd>SCOR</Cd></CdOrPrtry><Issr>ISO</Issr>"
            f"</Tp>{_tag('Ref', transfer.creditor_reference)}</CdtrRefInf></Strd></RmtInf>"
        )
    if transfer.remittance:
        return f"<RmtInf>{_tag('Ustrd', transfer.remittance)}</RmtInf>"
    return ""
