"""Standard Webhooks 1.0.0: secrets, and the signature over the bytes that are sent."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32


def write_secret(key: bytes) -> str:
    """Return the text in which a key is shown: `whsec_` and its base64."""
    return PREFIX + base64.b64encode(key).decode("ascii")


def read_secret(text: str) -> bytes:
    """
    Return the key that a secret's text carries.

    :raises ValueError: if the text is no secret
    """
    if not text.startswith(PREFIX):
        raise ValueError("A webhook secret begins with whsec_.")
    try:
        return base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("A webhook secret is base64 after whsec_.") from error


def sign(*, secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """
    Return the `webhook-signature` header: one `v1,` signature per secret, in their order.

    `timestamp` is in Unix seconds, of this attempt. What is signed is `{id}.{timestamp}.{body}`,
    so an id must not hold a full stop.

    :raises ValueError: if there is no secret, a secret is malformed, or the id holds a full stop
    """
    if not secrets or "." in message_id:
        raise ValueError("A message is signed by at least one secret, under an id without '.'.")
    return " ".join(
        signatures(secrets=secrets, message_id=message_id, timestamp=str(timestamp), body=body)
    )


def signatures(
    *, secrets: Sequence[str], message_id: str, timestamp: str, body: bytes
) -> list[str]:
    """
    Return the `v1,` signature under each secret, in their order; `timestamp` as it is written.

    :raises ValueError: if a secret is malformed
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return [f"v1,{_mac(read_secret(secret), signed)}" for secret in secrets]


def _mac(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(key, signed, sha256)).decode("ascii")
