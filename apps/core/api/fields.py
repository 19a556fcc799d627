"""
The fields of the API: what a value must look like, and how it is printed.

They look at shape only; what a value means is for the operation. All of them are strict about the
JSON type, since a lenient reader and a strict one would disagree about money.
"""

import re
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar, Final, override
from uuid import UUID

from rest_framework import serializers

from apps.core import money, text
from apps.core.errors import InvalidInput
from apps.core.ids import decode_id, encode_id
from apps.core.wall_clock import print_instant

AMOUNT_MAX: Final = 10**13
METADATA_KEYS_MAX: Final = 50
METADATA_KEY_BYTES_MAX: Final = 40
METADATA_VALUE_BYTES_MAX: Final = 500

_INSTANT: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)


class IdField(serializers.Field[UUID, Any, str, Any]):
    """A prefixed id: a malformed one is 400, one of another kind 404."""

    default_error_messages: ClassVar = {"invalid": "This is not a well-formed id."}

    def __init__(self, prefix: str, **kwargs: Any) -> None:  # noqa: ANN401 - the framework's
        self.prefix = prefix
        super().__init__(**kwargs)

    def openapi(self) -> dict[str, Any]:
        return {
            "type": "string",
            "pattern": f"^{self.prefix}_[0-9a-hjkmnp-tv-z]{{26}}$",
            "example": f"{self.prefix}_01kb1mzxe5f0q8w3v6y2n4r7ta",
        }

    @override
    def to_internal_value(self, data: Any) -> UUID:
        try:
            return decode_id(self.prefix, data)
        except InvalidInput:
            self.fail("invalid")

    @override
    def to_representation(self, value: UUID) -> str:
        return encode_id(self.prefix, value)


class AmountField(serializers.Field[int, Any, int, Any]):
    """An amount in minor units, positive. `1.0`, `"1"` and `true` are not amounts."""

    default_error_messages: ClassVar = {
        "invalid": "An amount is an integer number of minor units.",
        "range": f"An amount is greater than 0 and at most {AMOUNT_MAX}.",
    }

    def openapi(self) -> dict[str, Any]:
        return {
            "type": "integer",
            "format": "int64",
            "minimum": 1,
            "maximum": AMOUNT_MAX,
            "example": 1050,
        }

    @override
    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        if not 0 < data <= AMOUNT_MAX:
            self.fail("range")
        return data

    @override
    def to_representation(self, value: int) -> int:
        return value


class IntegerField(serializers.Field[int, Any, int, Any]):
    """An integer within inclusive bounds."""

    default_error_messages: ClassVar = {
        "invalid": "This is not an integer.",
        "range": "This is at least {least} and at most {most}.",
    }

    def __init__(self, *, least: int, most: int, **kwargs: Any) -> None:  # noqa: ANN401 - the framework's
        self.least, self.most = least, most
        super().__init__(**kwargs)

    def openapi(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    @override
    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        if not self.least <= data <= self.most:
            self.fail("range", least=self.least, most=self.most)
        return data

    @override
    def to_representation(self, value: int) -> int:
        return value


class TruthField(serializers.Field[bool, Any, bool, Any]):
    """true or false, as JSON has them."""

    default_error_messages: ClassVar = {"invalid": "This is true or false."}

    def openapi(self) -> dict[str, Any]:
        return {"type": "boolean"}

    @override
    def to_internal_value(self, data: Any) -> bool:
        if type(data) is not bool:
            self.fail("invalid")
        return data

    @override
    def to_representation(self, value: bool) -> bool:
        return value


class CurrencyField(serializers.Field[str, Any, str, Any]):
    """An ISO 4217 code in upper case, of a currency that has an exponent."""

    default_error_messages: ClassVar = {"invalid": "This is not an ISO 4217 currency code."}

    def openapi(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[A-Z]{3}$", "example": "EUR"}

    @override
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or not _CURRENCY.fullmatch(data):
            self.fail("invalid")
        try:
            money.exponent(data)
        except (ValueError, KeyError, InvalidInput):
            self.fail("invalid")
        return data

    @override
    def to_representation(self, value: str) -> str:
        return value


class TextField(serializers.Field[str, Any, str, Any]):
    """
    A line of text in normal form C, at most `max_length` bytes of UTF-8.

    Characters nobody can see are refused, and so are card numbers (`apps.core.text`). With
    `pattern` the whole text must match it.
    """

    default_error_messages: ClassVar = {
        "invalid": "This is not a text.",
        "blank": "This may not be empty.",
        "length": "This has at most {max_length} bytes.",
        "pattern": "This has a wrong form.",
    }

    def __init__(
        self,
        max_length: int,
        *,
        allow_blank: bool = False,
        pattern: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - the framework's
    ) -> None:
        self.max_length = max_length
        self.allow_blank = allow_blank
        self.pattern = re.compile(pattern, re.ASCII) if pattern else None
        super().__init__(**kwargs)

    def openapi(self) -> dict[str, Any]:
        said: dict[str, Any] = {"type": "string", "maxLength": self.max_length}
        if not self.allow_blank:
            said["minLength"] = 1
        if self.pattern:
            said["pattern"] = f"^{self.pattern.pattern}$"
        return said

    @override
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        # Before normalising, whose work grows with the text.
        if len(data) > self.max_length:
            self.fail("length", max_length=self.max_length)
        cleaned = self.cleaned(data)
        if not cleaned and not self.allow_blank:
            self.fail("blank")
        if len(cleaned.encode()) > self.max_length:
            self.fail("length", max_length=self.max_length)
        if self.pattern and cleaned and not self.pattern.fullmatch(cleaned):
            self.fail("pattern")
        return cleaned

    def cleaned(self, data: str) -> str:
        return clean_text(data)

    @override
    def to_representation(self, value: str) -> str:
        return str(value)


class IbanField(TextField):
    """
    An IBAN however it is written; whether it is one is for the operation, which keeps no other.

    Its digits are not looked at for a card number: one in ten would have a card's check digit.
    """

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - the framework's
        super().__init__(64, **kwargs)

    @override
    def cleaned(self, data: str) -> str:
        return clean_text(data, text.in_normal_form)


def clean_text(data: str, clean: Callable[[str], str] = text.clean) -> str:
    """
    Return the text in normal form.

    :raises ValidationError: with the code of what was refused
    """
    try:
        return clean(data)
    except text.TextRefused as refused:
        raise serializers.ValidationError(str(refused), code=refused.code) from None


class CodeField(serializers.Field[str, Any, str, Any]):
    """One of a closed list of codes."""

    default_error_messages: ClassVar = {"invalid": "This is one of: {codes}."}

    def __init__(self, codes: Collection[str], **kwargs: Any) -> None:  # noqa: ANN401 - the framework's
        self.codes = [str(code) for code in codes]
        super().__init__(**kwargs)

    def openapi(self) -> dict[str, Any]:
        # A null is none of them to a reader of the schema, unless it is said to be.
        return {"type": "string", "enum": [*self.codes, *([None] if self.allow_null else [])]}

    @override
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or data not in self.codes:
            self.fail("invalid", codes=", ".join(self.codes))
        return data

    @override
    def to_representation(self, value: str) -> str:
        return str(value)


class InstantField(serializers.Field[datetime, Any, str, Any]):
    """An instant: RFC 3339 with an offset in, UTC out."""

    default_error_messages: ClassVar = {
        "invalid": "This is not an RFC 3339 instant with an offset."
    }

    def openapi(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}

    @override
    def to_internal_value(self, data: Any) -> datetime:
        if not isinstance(data, str) or not _INSTANT.fullmatch(data):
            self.fail("invalid")
        try:
            return datetime.fromisoformat(data.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail("invalid")

    @override
    def to_representation(self, value: datetime) -> str:
        return print_instant(value)


class DayField(serializers.Field[date, Any, str, Any]):
    """A day, as YYYY-MM-DD."""

    default_error_messages: ClassVar = {"invalid": "This is not a day in the form YYYY-MM-DD."}

    def openapi(self) -> dict[str, Any]:
        return {"type": "string", "format": "date"}

    @override
    def to_internal_value(self, data: Any) -> date:
        if not isinstance(data, str) or not _DAY.fullmatch(data):
            self.fail("invalid")
        try:
            return date.fromisoformat(data)
        except ValueError:
            self.fail("invalid")

    @override
    def to_representation(self, value: date) -> str:
        return value.isoformat()


class DecimalField(serializers.Field[Decimal, Any, str, Any]):
    """A decimal above 0 as a text, such as "1.08456": a JSON number would pass through a float."""

    default_error_messages: ClassVar = {
        "invalid": "This is a decimal in a text, greater than 0, with at most {digits} digits"
        " before the point and {places} behind it."
    }

    def __init__(self, *, digits: int, places: int, **kwargs: Any) -> None:  # noqa: ANN401 - the framework's
        self.digits, self.places = digits, places
        self.pattern = re.compile(rf"[0-9]{{1,{digits}}}(\.[0-9]{{1,{places}}})?", re.ASCII)
        super().__init__(**kwargs)

    def openapi(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{self.pattern.pattern}$", "example": "1.08456"}

    @override
    def to_internal_value(self, data: Any) -> Decimal:
        if not isinstance(data, str) or not self.pattern.fullmatch(data) or not Decimal(data):
            self.fail("invalid", digits=self.digits, places=self.places)
        return Decimal(data)

    @override
    def to_representation(self, value: Decimal) -> str:
        return f"{value.normalize():f}"


class MetadataField(serializers.Field[dict[str, str], Any, dict[str, str], Any]):
    """Texts under keys of the client's own: at most 50, stored as they are and never read."""

    default_error_messages: ClassVar = {
        "invalid": "Metadata is an object of texts.",
        "keys": f"Metadata has at most {METADATA_KEYS_MAX} keys.",
        "key": f"A key has 1 to {METADATA_KEY_BYTES_MAX} bytes.",
        "twice": "Two keys are the same text, written with other characters.",
        "value": f"A value is a text of at most {METADATA_VALUE_BYTES_MAX} bytes.",
    }

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - the framework's
        sizes = f"Keys of 1 to {METADATA_KEY_BYTES_MAX}, values of up to {METADATA_VALUE_BYTES_MAX}"
        sizes = f"{sizes} bytes: a character, as `maxLength` counts, has up to four in UTF-8."
        kwargs["help_text"] = f"{kwargs.get('help_text', '')} {sizes}".strip()
        super().__init__(**{"required": False} | kwargs)

    def openapi(self) -> dict[str, Any]:
        value = {"type": "string", "maxLength": METADATA_VALUE_BYTES_MAX}
        return {"type": "object", "additionalProperties": value, "maxProperties": METADATA_KEYS_MAX}

    @override
    def to_internal_value(self, data: Any) -> dict[str, str]:
        if not isinstance(data, dict):
            self.fail("invalid")
        if len(data) > METADATA_KEYS_MAX:
            self.fail("keys")
        cleaned: dict[str, str] = {}
        for key, value in data.items():
            # Before normalising, whose work grows with the text, and again of what came of it.
            self._require_length(key, key, value)
            try:
                name, held = clean_text(key), clean_text(value)
            except serializers.ValidationError as refused:
                raise serializers.ValidationError({key: refused.detail}) from None
            self._require_length(key, name.encode(), held.encode())
            if name in cleaned:
                self.fail("twice")
            cleaned[name] = held
        return cleaned

    def _require_length(self, key: str, name: str | bytes, value: object) -> None:
        if not 0 < len(name) <= METADATA_KEY_BYTES_MAX:
            self.fail("key")
        if not isinstance(value, str | bytes) or len(value) > METADATA_VALUE_BYTES_MAX:
            raise serializers.ValidationError({key: [self.error_messages["value"]]})

    @override
    def to_representation(self, value: dict[str, str]) -> dict[str, str]:
        return value
