"""Encrypted texts of versions and attempts, in clear."""

import json
from typing import Any
from uuid import UUID

from apps.core import encryption
from apps.payouts.models import DestinationVersion, PayoutAttempt

IBAN_COLUMN = "payouts_destination_version.iban"
HOLDER_COLUMN = "payouts_destination_version.holder"
ADDRESS_COLUMN = "payouts_destination_version.address"
SENT_COLUMN = "payouts_attempt.sent"


class Clear:
    """Reads encrypted texts of one organization; who shows them to a person has logged that."""

    def __init__(self, organization_id: UUID) -> None:
        self._unseal = encryption.unsealer(organization_id)

    def iban(self, version: DestinationVersion) -> str:
        return self._unseal(IBAN_COLUMN, version.id, bytes(version.iban_sealed))

    def holder(self, version: DestinationVersion) -> str:
        return self._unseal(HOLDER_COLUMN, version.id, bytes(version.holder_sealed))

    def address(self, version: DestinationVersion) -> dict[str, Any]:
        """Return the holder's address as it was given, or an empty one."""
        if version.address_sealed is None:
            return {}
        found: dict[str, Any] = json.loads(
            self._unseal(ADDRESS_COLUMN, version.id, bytes(version.address_sealed))
        )
        return found

    def sent(self, attempt: PayoutAttempt) -> dict[str, Any]:
        """Return the texts of an attempt as the file has them."""
        found: dict[str, Any] = json.loads(
            self._unseal(SENT_COLUMN, attempt.id, bytes(attempt.sent_sealed))
        )
        return found
