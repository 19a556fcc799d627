"""Have providers' events worked that came before anybody handled their type."""

import getpass
from argparse import ArgumentParser
from typing import override

from django.core.management.base import BaseCommand, CommandError

from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.webhooks import operations, queries, registry
from apps.webhooks.models import ProviderConnection


class Command(BaseCommand):
    help = (
        "Release providers' events that were ignored, since nobody handled their type: ten thousand"
        " of each connection at a time. Without a type, list what is kept of those handled by now."
    )

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--provider", default="", help="Of this provider's connections alone.")
        parser.add_argument("--type", default="")
        parser.add_argument("--reason", default="")

    @override
    def handle(
        self,
        *,
        provider: str = "",
        type: str = "",
        reason: str = "",
        **_: object,
    ) -> None:
        if type and not (provider and reason):
            raise CommandError("A release needs --provider, --type and --reason.")
        for connection in queries.list_provider_connections():
            if provider not in {"", connection.provider}:
                continue
            kept = queries.count_ignored(
                connection=connection,
                types=[type] if type else registry.list_handled_types(connection.provider),
                number_max=operations.RELEASED_AT_ONCE,
            )
            for type_, number in kept.items():
                done = self._release(connection, type_, reason) if type else number
                more = "" if done < operations.RELEASED_AT_ONCE else " or more"
                told = f"{done} due now" if type else f"{done}{more} kept"
                self.stdout.write(f"{_named(connection)} {type_}: {told}")

    def _release(self, connection: ProviderConnection, type_: str, reason: str) -> int:
        try:
            return operations.release_ignored_events(
                organization_id=connection.organization_id,
                connection_id=connection.id,
                type=type_,
                reason=reason,
                idempotency_key=f"release_ignored:{new_id()}",
                actor=Actor(
                    kind="job", id="release_ignored", principal=f"shell:{getpass.getuser()}"
                ),
            )
        except Refusal as refusal:
            raise CommandError(refusal.message) from None


def _named(connection: ProviderConnection) -> str:
    return f"{connection.provider} {encode_id('pvc', connection.id)}"
