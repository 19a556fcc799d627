"""Makes an organization, its cards, and a provider's connection to it; runs as a child."""

from collections.abc import Callable, Mapping
from typing import Any

from django.db import connection

from apps.core import clock
from apps.core.ids import encode_id, new_id
from apps.webhooks import operations
from apps.webhooks.rules import signing
from bench._cards import CREATE, PROVIDER
from bench._events import ACTOR, open_organization


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, str]]:
    """Return what makes `cards` cards; it says where the provider posts, and with what secret."""

    def make() -> dict[str, str]:
        organization_id = open_organization()
        with connection.cursor() as cursor:
            cursor.execute(CREATE, {"organization": organization_id, "count": order["cards"]})
            cursor.execute("ANALYZE bench_card")
        secret = signing.write_secret(new_id().bytes * 2)
        made = operations.add_provider_connection(
            organization_id=organization_id,
            provider=PROVIDER,
            name="Cards",
            secret=secret,
            idempotency_key=new_id().hex,
            actor=ACTOR,
            now=clock.now(),
        )
        return {"path": f"/hooks/{PROVIDER}/{encode_id('pvc', made.id)}", "secret": secret}

    return make
