"""
Whether a message comes from one who holds a secret, and was signed just now.

Standard Webhooks 1.0.0, the scheme that we sign by ourselves (`rules.signing`).
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from apps.webhooks.rules import signing

TOLERANCE_SECONDS: Final = 300
# A sender signs with its old and its new secret; what follows so many is not looked at.
SIGNATURES_MAX: Final = 8
KEY_BYTES_MIN: Final = 24
KEY_BYTES_MAX: Final = 64

# Without a full stop, or `{id}.{timestamp}.{body}` could be cut in another place.
_MESSAGE_ID: Final = re.compile(r"[!-\-/-~]{1,255}", re.ASCII)
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


class Verdict(StrEnum):
    """What a verification found; all but the first are codes of a refusal."""

    VERIFIED = "verified"
    SIGNATURE_INVALID = "signature_invalid"
    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The three headers of a message, as they were sent; an absent one is empty."""

    message_id: str
    timestamp: str
    signature: str


def is_secret(text: str) -> bool:
    """Say whether a text is a secret whose key is as long as the standard asks (24 to 64 bytes)."""
    try:
        return KEY_BYTES_MIN <= len(signing.read_secret(text)) <= KEY_BYTES_MAX
    except ValueError:
        return False


def verify(*, secrets: Sequence[str], envelope: Envelope, body: bytes, now: datetime) -> Verdict:
    """
    Check the bytes as they came against each of the secrets; one that fits is enough.

    Every signature is compared with every secret's in constant time, also after one has fitted.
    That the clock is off is told to those alone who signed: it is `TIMESTAMP_OUT_OF_RANGE` beyond
    300 seconds to either side, and what nobody signed is `SIGNATURE_INVALID` whatever its time.
    """
    if not _MESSAGE_ID.fullmatch(envelope.message_id):
        return Verdict.SIGNATURE_INVALID
    if not _TIMESTAMP.fullmatch(envelope.timestamp):
        return Verdict.SIGNATURE_INVALID
    wanted = signing.signatures(
        secrets=secrets, message_id=envelope.message_id, timestamp=envelope.timestamp, body=body
    )
    given = envelope.signature.encode("utf-8", "replace").split()[:SIGNATURES_MAX]
    matches = [hmac.compare_digest(one.encode(), other) for one in wanted for other in given]
    if not any(matches):
        return Verdict.SIGNATURE_INVALID
    if abs(int(now.timestamp()) - int(envelope.timestamp)) > TOLERANCE_SECONDS:
        return Verdict.TIMESTAMP_OUT_OF_RANGE
    return Verdict.VERIFIED
