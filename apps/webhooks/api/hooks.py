"""
POST /hooks/{provider}/{connection}: a provider tells what happened.

No API key: a signature over the bytes proves who speaks. Strangers may call it, so what they can
cost is bounded before anything is looked up: so many calls from an address, and 1 MiB each.
"""

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from apps.core import clock
from apps.core.api import limits, problems
from apps.core.api.bodies import read_body
from apps.core.api.problems import ApiProblem
from apps.core.api.views import answer
from apps.core.ids import decode_id
from apps.webhooks import operations, queries, registry
from apps.webhooks.errors import ConnectionNotFound
from apps.webhooks.rules.inbound import identify
from apps.webhooks.rules.verification import TOLERANCE_SECONDS, Envelope, Verdict

BYTES_MAX: Final = 1024 * 1024
_SAID: Final = {
    Verdict.SIGNATURE_INVALID: (
        "webhook-id, webhook-timestamp and webhook-signature are not those of a message that was"
        " signed with a secret of this connection."
    ),
    Verdict.TIMESTAMP_OUT_OF_RANGE: (
        f"The message was signed more than {TOLERANCE_SECONDS} seconds from now by our clock."
    ),
}


@csrf_exempt
def take_event(request: HttpRequest, provider: str, connection_id: str) -> HttpResponse:
    """Keep one signed message; the answer is the same whether it is new or was there."""
    try:
        return _take(request, provider, connection_id)
    # The boundary: whatever it was is answered as a problem, and a fault is reported.
    except Exception as fault:  # noqa: BLE001
        response = problems.respond(fault, request)
        if response.status_code == 401:  # noqa: PLR2004 - not who it says
            response["WWW-Authenticate"] = "Webhook-Signature"
        return response


def _take(request: HttpRequest, provider: str, connection_id: str) -> HttpResponse:
    if request.method != "POST":
        raise ApiProblem(
            "method_not_allowed", "Events are sent by POST.", headers={"Allow": "POST"}
        )
    id_ = decode_id("pvc", connection_id)
    limits.admit_stranger(request, subject=id_)
    body = read_body(request, bytes_max=BYTES_MAX)
    source = registry.find_provider(provider)
    found = queries.find_provider_connection(provider=provider, connection_id=id_)
    if source is None or found is None:
        raise ConnectionNotFound("No such connection to a provider.")
    now = clock.now()
    envelope = Envelope(
        message_id=request.META.get("HTTP_WEBHOOK_ID", ""),
        timestamp=request.META.get("HTTP_WEBHOOK_TIMESTAMP", ""),
        signature=request.META.get("HTTP_WEBHOOK_SIGNATURE", ""),
    )
    verdict = operations.verify_message(connection=found, envelope=envelope, body=body, now=now)
    if verdict is not Verdict.VERIFIED:
        operations.count_refused_call(connection=found, reason=verdict, now=now)
        raise ApiProblem(verdict, _SAID[verdict], server_time=int(now.timestamp()))
    operations.receive_event(
        connection=found,
        reading=identify(source.read, envelope=envelope, body=body),
        body=body,
        now=now,
    )
    return answer({"status": "received"})
