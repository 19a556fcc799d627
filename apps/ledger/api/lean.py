"""
The shapes of the two hottest routes, read and printed without the framework's serializers.

Reading is optimistic: msgspec takes a body apart in C, and a few comparisons show that it is one
the serializers accept as it stands. Whatever is not plainly so, for whatever reason, goes to the
strict parser and the serializers, which accept it or say what is wrong: so there is one source of
errors, and a doubt costs time and never an answer. The tests hold the two against each other.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from rest_framework.exceptions import ValidationError

from apps.core import strict_json, text
from apps.core.api.fields import (
    AMOUNT_MAX,
    METADATA_KEY_BYTES_MAX,
    METADATA_KEYS_MAX,
    METADATA_VALUE_BYTES_MAX,
    TextField,
)
from apps.core.errors import Refusal
from apps.core.ids import decode_often, encode_id, encode_ids, encode_often
from apps.core.wall_clock import print_instant
from apps.ledger.api import serializers
from apps.ledger.operations import TransferRequest
from apps.ledger.queries import BalanceView, BatchResult
from apps.ledger.rules import BalanceAfter


class _Transfer(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    # The rules of each value are the serializer's field's.
    debit_account: str
    credit_account: str
    amount: int
    currency: str
    reference: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    effective_at: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    up_to: bool | UnsetType = UNSET
    force: bool | UnsetType = UNSET
    # Of one of a batch alone, and of one by itself alone.
    linked: bool | UnsetType = UNSET
    dry_run: bool | UnsetType = UNSET


class _Batch(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    transfers: list[_Transfer]
    mode: str | UnsetType = UNSET
    dry_run: bool | UnsetType = UNSET


_one: Final = msgspec.json.Decoder(_Transfer)
_many: Final = msgspec.json.Decoder(_Batch)

# Strings of a transfer with nothing optional: four names, and the values of three.
_STRINGS: Final = 7
_NOTHING: Final[Mapping[str, Any]] = {}
_FIELDS: Final[Mapping[str, Any]] = serializers.PostTransfer().fields


class _Doubtful(Exception):
    """The body is not plainly one that the serializers accept."""


# All the ways in which what is called here says no to a value.
_DOUBTS: Final = (
    _Doubtful,
    msgspec.MsgspecError,
    UnicodeDecodeError,
    text.TextRefused,
    ValidationError,
    Refusal,
)


# --- Reading ------------------------------------------------------------------------------------


def read_transfer(raw: bytes) -> tuple[TransferRequest, bool]:
    """
    Return the transfer that the JSON asks for, and whether it is a dry run.

    :raises JsonRefused: if the text is not JSON that we accept
    :raises ValidationError: naming each field that is wrong
    :raises WrongIdKind: if an id is of another kind
    """
    try:
        return _read_transfer(raw)
    except _DOUBTS:
        body = serializers.PostTransfer(data=strict_json.parse(raw))
        body.is_valid(raise_exception=True)
        asked = dict(body.validated_data)
        dry_run = asked.pop("dry_run", False)
        return TransferRequest(**asked), dry_run


def read_batch(
    raw: bytes, *, bytes_max: int, nodes_max: int
) -> tuple[Sequence[TransferRequest], Any, bool]:
    """
    Return the transfers of a batch, its mode, and whether it is a dry run.

    :raises JsonRefused: if the text is not JSON that we accept
    :raises ValidationError: naming each field that is wrong
    :raises WrongIdKind: if an id is of another kind
    """
    try:
        return _read_batch(raw, nodes_max)
    except _DOUBTS:
        body = serializers.PostTransfers(
            data=strict_json.parse(raw, bytes_max=bytes_max, nodes_max=nodes_max)
        )
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        transfers = [TransferRequest(**one) for one in asked["transfers"]]
        return transfers, asked["mode"], asked.get("dry_run", False)


def _read_transfer(raw: bytes) -> tuple[TransferRequest, bool]:
    shape = _one.decode(raw)
    if shape.linked is not UNSET:
        raise _Doubtful
    asked, strings = _request(shape)
    if shape.dry_run is not UNSET:
        strings += 1
    _require_each_key_once(raw, strings)
    return asked, shape.dry_run is True


def _read_batch(raw: bytes, nodes_max: int) -> tuple[Sequence[TransferRequest], str, bool]:
    if raw.count(b"{") + raw.count(b"[") + raw.count(b",") >= nodes_max:
        raise _Doubtful
    batch = _many.decode(raw)
    if not 0 < len(batch.transfers) <= serializers.BATCH_MAX:
        raise _Doubtful
    mode, strings = "atomic", 1
    if batch.mode is not UNSET:
        mode = serializers.PostTransfers().fields["mode"].to_internal_value(batch.mode)
        strings += 2
    if batch.dry_run is not UNSET:
        strings += 1
    requests = []
    for shape in batch.transfers:
        if shape.dry_run is not UNSET:
            raise _Doubtful
        request, found = _request(shape)
        requests.append(request)
        strings += found
    _require_each_key_once(raw, strings)
    return requests, mode, batch.dry_run is True


def _request(shape: _Transfer) -> tuple[TransferRequest, int]:
    """Return the transfer, and how many strings of JSON it was made of."""
    debit = decode_often("la", shape.debit_account)
    credit = decode_often("la", shape.credit_account)
    amount = shape.amount
    if not (0 < amount <= AMOUNT_MAX and _is_currency(shape.currency)):
        raise _Doubtful
    if (
        shape.reference is UNSET
        and shape.description is UNSET
        and shape.effective_at is UNSET
        and shape.metadata is UNSET
        and shape.linked is UNSET
        and shape.up_to is UNSET
        and shape.force is UNSET
    ):
        more, strings = _NOTHING, _STRINGS
    else:
        more, strings = _optional(shape)
    return TransferRequest(
        debit_account_id=debit,
        credit_account_id=credit,
        amount_minor=amount,
        currency=shape.currency,
        **more,
    ), strings


@lru_cache(maxsize=512)
def _is_currency(code: str) -> bool:
    try:
        _FIELDS["currency"].to_internal_value(code)
    except ValidationError:
        return False
    return True


def _optional(shape: _Transfer) -> tuple[Mapping[str, Any], int]:
    more: dict[str, Any] = {}
    strings = _STRINGS
    if shape.reference is not UNSET:
        more["reference"] = _text(shape.reference, _FIELDS["reference"])
        strings += 2
    if shape.description is not UNSET:
        more["description"] = _text(shape.description, _FIELDS["description"])
        strings += 2
    if shape.effective_at is not UNSET:
        more["effective_at"] = _instant(shape.effective_at)
        strings += 2
    if shape.metadata is not UNSET:
        more["metadata"] = _metadata(shape.metadata)
        strings += 1 + 2 * len(shape.metadata)
    for name in ("linked", "up_to", "force"):
        if (given := getattr(shape, name)) is not UNSET:
            more[name] = given
            strings += 1
    return more, strings


def _text(value: str, field: TextField) -> str:
    # In ASCII a character is a byte and normal, so there is one length and nothing to replace.
    if value.isascii() and 0 < len(value) <= field.max_length:
        return text.clean(value)
    return field.to_internal_value(value)


def _metadata(value: dict[str, str]) -> dict[str, str]:
    if len(value) > METADATA_KEYS_MAX:
        raise _Doubtful
    for key, held in value.items():
        if not (
            key.isascii()
            and held.isascii()
            and 0 < len(key) <= METADATA_KEY_BYTES_MAX
            and len(held) <= METADATA_VALUE_BYTES_MAX
        ):
            cleaned: dict[str, str] = _FIELDS["metadata"].to_internal_value(value)
            return cleaned
        text.clean(key)
        text.clean(held)
    return value


@lru_cache(maxsize=1024)
def _instant(value: str) -> datetime:
    # The transfers of a batch tend to be of one time.
    found: datetime = _FIELDS["effective_at"].to_internal_value(value)
    return found


def _require_each_key_once(raw: bytes, strings: int) -> None:
    """
    Refuse a body that holds more strings than were read from it.

    msgspec keeps the last of two equal keys without a word. Where nothing is escaped, each string
    is two quotes, so a key that was there twice shows as quotes that belong to nothing.
    """
    if b"\\" in raw or raw.count(b'"') != 2 * strings:
        raise _Doubtful


# --- Printing -----------------------------------------------------------------------------------


def print_transfer(asked: TransferRequest, shown: Mapping[str, Any]) -> dict[str, object]:
    """Return a transfer as `serializers.Transfer` prints it: what was asked, and what it became."""
    return {
        "id": encode_id("je", shown["id"]) if shown["id"] else None,
        "debit_account": encode_often("la", asked.debit_account_id.int),
        "credit_account": encode_often("la", asked.credit_account_id.int),
        "amount": shown["amount"],
        "currency": asked.currency,
        "reference": asked.reference,
        "description": shown["description"],
        "effective_at": print_instant(shown["effective_at"]),
        "created_at": _instant_or_null(shown["created_at"]),
        "metadata": shown["metadata"],
        "balances": [_balance(id_, balance) for id_, balance in shown["balances"]],
        "dry_run": shown["dry_run"],
    }


class _Balance(msgspec.Struct, gc=False):
    ledger_account: str
    version: int
    posted: int
    available: int


def _balance(id_: UUID, balance: BalanceAfter | BalanceView) -> _Balance:
    return _Balance(encode_often("la", id_.int), balance.version, balance.posted, balance.available)


def _instant_or_null(value: datetime | None) -> str | None:
    return None if value is None else print_instant(value)


class _Outcome(msgspec.Struct, gc=False):
    status: str
    transfer: str | None
    amount: int | None = None
    code: str | None = None
    detail: str | None = None
    details: Mapping[str, object] | None = None


def print_batch(result: BatchResult, *, dry_run: bool = False) -> dict[str, object]:
    """Return a batch as `serializers.TransferBatch` prints it."""
    printed = iter(encode_ids("je", [id_ for id_ in result.entry_ids if id_]))
    outcomes = [
        _Outcome("posted", next(printed) if id_ else None, amount)
        for id_, amount in zip(result.entry_ids, result.amounts, strict=True)
    ]
    for index, refusal in result.refusals.items():
        outcomes[index] = _Outcome(
            "refused", None, None, refusal.code, refusal.message, refusal.details
        )
    return {
        "id": None if dry_run else encode_id("tb", result.batch_id),
        "posted": len(outcomes) - len(result.refusals),
        "refused": len(result.refusals),
        "outcomes": outcomes,
        "balances": [_balance(balance.id, balance) for balance in result.balances],
        "created_at": _instant_or_null(result.created_at),
        "dry_run": dry_run,
    }
