"""Reading a request's body: counted as it streams, then parsed strictly."""

import re
from typing import Any, Final

from django.http import HttpRequest

from apps.core import strict_json
from apps.core.api.problems import ApiProblem

_JSON: Final = re.compile(r'application/json(?:\s*;\s*charset="?utf-8"?)?\s*', re.IGNORECASE)


def read_json(
    request: HttpRequest,
    *,
    bytes_max: int = strict_json.BYTES_MAX,
    nodes_max: int = strict_json.NODES_MAX,
) -> Any:  # noqa: ANN401 - JSON is any
    """
    Return the JSON of the body; an empty body is an empty object.

    :raises ApiProblem: `unsupported_media_type` (415), `body_too_large` (413)
    :raises JsonRefused: if the body is not JSON that we accept
    """
    raw = read_raw_json(request, bytes_max=bytes_max)
    return strict_json.parse(raw, bytes_max=bytes_max, nodes_max=nodes_max)


def read_raw_json(request: HttpRequest, *, bytes_max: int = strict_json.BYTES_MAX) -> bytes:
    """
    Return the bytes of what calls itself JSON, for a reader of its own; `{}` if there are none.

    :raises ApiProblem: `unsupported_media_type` (415), `body_too_large` (413)
    """
    raw = read_body(request, bytes_max=bytes_max)
    content_type = request.META.get("CONTENT_TYPE", "")
    if not raw and not content_type:
        return b"{}"
    if content_type != "application/json" and not _JSON.fullmatch(content_type):
        raise ApiProblem("unsupported_media_type", "Send application/json in UTF-8.")
    return raw or b"{}"


def read_body(request: HttpRequest, *, bytes_max: int) -> bytes:
    """
    Return the raw body, whatever Content-Length claims.

    :raises ApiProblem: `body_too_large` (413), `unsupported_media_type` (415) if it is compressed
    """
    if request.META.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise ApiProblem("unsupported_media_type", "Send the body uncompressed.")
    length = request.META.get("CONTENT_LENGTH") or ""
    if length.isdigit() and int(length) > bytes_max:
        raise _too_large(bytes_max)
    stream: Any = request
    if not length and request.META.get("wsgi.input_terminated"):
        # A chunked body has no length, which Django takes for none; the server ends the stream.
        stream = request.META["wsgi.input"]
    raw: bytes = stream.read(bytes_max + 1)
    if len(raw) > bytes_max:
        raise _too_large(bytes_max)
    return raw


def _too_large(bytes_max: int) -> ApiProblem:
    return ApiProblem("body_too_large", f"The body is longer than {bytes_max} bytes.")
