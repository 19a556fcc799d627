"""
Pure decisions: the form of an API key, its digest, who may use it and from where; what of a person
is shown.

A key is `kassa_<live|test>_<12 key id>_<43 secret><6 CRC32>`, all in base62.
Secret scanners know the prefix, and the checksum tells a typing error without asking anybody.
"""

import hmac
import ipaddress
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final, override

KEY_ID_LENGTH: Final = 12
SECRET_LENGTH: Final = 43
CHECKSUM_LENGTH: Final = 6
# 43 base62 digits hold 256 bits; the key id only has to be distinct.
SECRET_BYTES: Final = 32
KEY_ID_BYTES: Final = 8

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = [a + b for a in _ALPHABET for b in _ALPHABET]
_TOKEN: Final = re.compile(
    rf"kassa_(live|test)_([0-9A-Za-z]{{{KEY_ID_LENGTH}}})_"
    rf"([0-9A-Za-z]{{{SECRET_LENGTH}}})([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})",
    re.ASCII,
)
_SCOPE: Final = re.compile(r"[a-z]+(?:_[a-z]+)*:(?:read|write)", re.ASCII)
# What an attacker who knows the address of the back office would try first.
_HOUSE_WORDS: Final = re.compile(
    r"kassa|ledger|payout|payment|finance|support|admin|staff|passphrase|password|passwort|qwerty"
)
_DISTINCT_MIN: Final = 5
_PURPOSE: Final = b"kassa.api_key"


@dataclass(frozen=True, slots=True)
class CustomerDetails:
    """What an organization says of a new customer; `currencies` each get an account."""

    name: str
    email: str | None = None
    external_id: str | None = None
    currencies: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContactData:
    """What is encrypted of a contact, in clear text; on a screen it is masked."""

    # Never in a log: whoever prints it prints that there is one.
    name: str = field(repr=False)
    email: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """
    What contacts are told, in words that are final: ids, hosts, times; no secret and no name.

    `kind` is what it tells, `about` the printed id of what it is about.
    """

    kind: str
    about: str
    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class Token:
    """A well-formed token, taken apart; whether it is anybody's is another question."""

    mode: str
    key_id: str
    secret: str

    @property
    def last4(self) -> str:
        """The last four digits of the secret, to tell keys apart on a screen."""
        return self.secret[-4:]

    @override
    def __repr__(self) -> str:
        return f"Token({self.mode}, {self.key_id}, …{self.last4})"


def make_token(*, mode: str, key_id_entropy: bytes, secret_entropy: bytes) -> Token:
    """Return the token that these random bytes make: 8 for the key id, 32 for the secret."""
    key_id = base62(int.from_bytes(key_id_entropy), KEY_ID_LENGTH)
    return Token(mode, key_id, base62(int.from_bytes(secret_entropy), SECRET_LENGTH))


def print_token(token: Token) -> str:
    """Return the token as its owner keeps it."""
    body = f"kassa_{token.mode}_{token.key_id}_{token.secret}"
    return body + _checksum(body)


def parse_token(text: str) -> Token | None:
    """Return the parts of a token, or None if it is malformed or mistyped."""
    found = _TOKEN.fullmatch(text)
    if found is None or _checksum(text[:-CHECKSUM_LENGTH]) != found[4]:
        return None
    return Token(mode=found[1], key_id=found[2], secret=found[3])


def find_key_id(text: str) -> str | None:
    """Return the key that a token names, or None if it is malformed; mistyped it may be."""
    found = _TOKEN.fullmatch(text)
    return found[2] if found else None


def _checksum(body: str) -> str:
    # base62(…, CHECKSUM_LENGTH), two digits at a time: it is computed for every request.
    rest, last = divmod(zlib.crc32(body.encode()), len(_PAIRS))
    first, middle = divmod(rest, len(_PAIRS))
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[last]


def base62(number: int, length: int) -> str:
    """Return the number in `length` base62 digits, the most significant first."""
    digits = []
    for _position in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def digest_secret(secret: str, *, pepper: str) -> bytes:
    """Return what is stored of a secret: 32 bytes that say nothing without the pepper."""
    return hmac.digest(_key_of(pepper), secret.encode(), sha256)


@lru_cache(maxsize=16)
def _key_of(pepper: str) -> bytes:
    # The same for every request, and no more of a secret than the pepper in the settings.
    return hmac.digest(pepper.encode(), _PURPOSE, sha256)


def is_secret(secret: str, *, stored: bytes | None, peppers: Sequence[str]) -> bool:
    """
    Say whether the secret is the stored one, under any of the peppers that still verify.

    The work is the same whether there is a stored digest or none, and whichever pepper fits.
    """
    reference = bytes(32) if stored is None else stored
    matches = [
        hmac.compare_digest(digest_secret(secret, pepper=pepper), reference) for pepper in peppers
    ]
    return any(matches) and stored is not None


def is_live(*, revoked_at: datetime | None, expires_at: datetime, now: datetime) -> bool:
    """Say whether a key may be used at this instant; it may not at `expires_at` itself."""
    return revoked_at is None and now < expires_at


def is_address_allowed(address: str, *, networks: Collection[str]) -> bool:
    """Say whether the address is in one of the networks (CIDR); with none listed, any is."""
    if not networks:
        return True
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    # An IPv4 client of a dual-stack socket shows as ::ffff:192.0.2.1.
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in ipaddress.ip_network(network) for network in networks)


def normal_network(text: str) -> str | None:
    """Return an address or network in CIDR form, or None if it is neither."""
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError:
        return None


def is_guessable_password(password: str) -> bool:
    """Say whether little is left once this house's own words, digits and repetition are gone."""
    rest = _HOUSE_WORDS.sub("", password.lower())
    return len(set(rest) - set("0123456789")) < _DISTINCT_MIN


def is_scope(text: str) -> bool:
    """Say whether the text has the form of a scope, such as `payouts:write`."""
    return bool(_SCOPE.fullmatch(text))


def masked_name(name: str) -> str:
    """Return the first letter of each word: `L••• F•••`."""
    return " ".join(f"{word[0]}•••" for word in name.split() if word)


def masked_email(email: str) -> str:
    """Return the first letters and the end: `j•••@e•••.com`."""
    local, _, domain = email.partition("@")
    head, _, tail = domain.rpartition(".")
    return f"{local[:1]}•••@{head[:1]}•••.{tail}" if domain else ""
