"""Reading a file from a multipart body: counted first, then parsed by Django."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from django.conf import settings
from django.core.files.uploadhandler import load_handler
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParser, MultiPartParserError

from apps.banking.formats.secure_xml import FILE_BYTES_MAX
from apps.core.api.bodies import read_body
from apps.core.api.problems import ApiProblem

# What the form's own lines may add to the file.
FORM_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The one file of a form, and the form's other fields."""

    name: str
    content: bytes
    fields: dict[str, str]


def read_upload(request: HttpRequest, *, name: str) -> Upload:
    """
    Return the file in the form's field `name`, at most 50 MB.

    :raises ApiProblem: `unsupported_media_type` (415), `body_too_large` (413), `invalid_request`
    """
    if not request.META.get("CONTENT_TYPE", "").lower().startswith("multipart/form-data"):
        raise ApiProblem("unsupported_media_type", "Send multipart/form-data.")
    raw = read_body(request, bytes_max=FILE_BYTES_MAX + FORM_BYTES_MAX)
    fields, files = _parse(request, raw)
    given = files.getlist(name)
    if len(given) != 1 or len(files) != 1:
        raise ApiProblem("invalid_request", f"Send exactly one file, as {name}.")
    if any(len(values) > 1 for _key, values in fields.lists()):
        raise ApiProblem("invalid_request", "A field is given more than once.")
    with given[0] as file:
        return Upload(name=str(file.name or ""), content=file.read(), fields=fields.dict())


def _parse(request: HttpRequest, raw: bytes) -> tuple[Any, Any]:
    meta = {**request.META, "CONTENT_LENGTH": str(len(raw))}
    handlers = [load_handler(each, request) for each in settings.FILE_UPLOAD_HANDLERS]
    try:
        return MultiPartParser(meta, BytesIO(raw), handlers).parse()
    except MultiPartParserError as fault:
        raise ApiProblem("invalid_request", "The form cannot be read.") from fault
