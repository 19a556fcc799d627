"""Files from banks and to them, and their bytes."""

import base64
import zlib
from typing import Final
from uuid import UUID

from django.db.models import QuerySet

from apps.banking import errors
from apps.banking.models import BankFile
from apps.core import encryption

CONTENT_COLUMN: Final = "banking_file.content"


def pack(content: bytes) -> str:
    """Return the content as it is encrypted: compressed, since XML is mostly its own tags."""
    return base64.b64encode(zlib.compress(content, 6)).decode("ascii")


def get_bank_file(*, organization_id: UUID, bank_file_id: UUID) -> BankFile:
    """
    Return the file's row, without its bytes.

    :raises BankFileNotFound: if the organization has no such file
    """
    found = list_bank_files(organization_id=organization_id).filter(id=bank_file_id).first()
    if found is None:
        raise errors.BankFileNotFound("There is no such bank file.")
    return found


def list_bank_files(*, organization_id: UUID) -> QuerySet[BankFile]:
    """Return the organization's files, newest first, without their bytes."""
    return (
        BankFile.objects.filter(organization_id=organization_id)
        .defer("content_sealed")
        .order_by("-id")
    )


def get_bank_file_for_update(*, organization_id: UUID, bank_file_id: UUID) -> BankFile:
    """
    Return the file locked: of two workers that read it, one records what it says.

    :raises BankFileNotFound: if the organization has no such file
    """
    found = (
        BankFile.objects.select_for_update(no_key=True)
        .defer("content_sealed")
        .filter(organization_id=organization_id, id=bank_file_id)
        .first()
    )
    if found is None:
        raise errors.BankFileNotFound("There is no such bank file.")
    return found


def find_file_by_hash(*, organization_id: UUID, direction: str, sha256: bytes) -> BankFile | None:
    """Return the file with these bytes, if it came or went before."""
    return (
        list_bank_files(organization_id=organization_id)
        .filter(direction=direction, sha256=sha256)
        .first()
    )


def find_outgoing_file(*, organization_id: UUID, message_id: str) -> BankFile | None:
    """Return the file that was stored under this message id."""
    return (
        list_bank_files(organization_id=organization_id)
        .filter(direction="out", message_id=message_id)
        .first()
    )


def get_bank_file_content(*, organization_id: UUID, bank_file_id: UUID) -> bytes:
    """
    Return the file's bytes as they came or went.

    :raises BankFileNotFound: if the organization has no such file
    """
    found = BankFile.objects.filter(organization_id=organization_id, id=bank_file_id).first()
    if found is None:
        raise errors.BankFileNotFound("There is no such bank file.")
    packed = encryption.unseal(
        organization_id, CONTENT_COLUMN, found.id, bytes(found.content_sealed)
    )
    return zlib.decompress(base64.b64decode(packed))
