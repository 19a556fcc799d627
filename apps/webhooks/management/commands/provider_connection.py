"""Connect an organization to a provider, or give a connection its provider's next secret."""

import getpass
import sys
from typing import Any, override
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts import queries as accounts
from apps.core import clock
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import decode_id, encode_id, new_id
from apps.webhooks import operations
from apps.webhooks.models import ProviderConnection

ACTOR = Actor.job("provider_connection")


class Command(BaseCommand):
    help = (
        "Connect an organization to a provider; prints the path of its hook. The secret is asked"
        " for, or read as a line from standard input: it stands in no list of processes."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", help="The name of the organization.")
        parser.add_argument("provider", help="The name of the provider, such as sandbox.")
        parser.add_argument("--name", default="from the terminal")
        parser.add_argument("--replace", metavar="pvc_…", help="Give this connection the secret.")
        parser.add_argument("--overlap-seconds", type=int, default=86_400)
        parser.add_argument("--test", action="store_true", help="For the test data.")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        organization = accounts.find_live_organization(name=options["organization"])
        if organization is None:
            raise CommandError("There is no such organization.")
        if options["test"]:
            organization = accounts.get_test_twin(organization_id=organization.id)
        try:
            made = _do(organization.id, _read_secret(), options)
        except Refusal as refusal:
            raise CommandError(refusal.message) from None
        self.stdout.write(f"/hooks/{made.provider}/{encode_id('pvc', made.id)}")


def _do(organization_id: UUID, secret: str, options: dict[str, Any]) -> ProviderConnection:
    common: dict[str, Any] = {
        "organization_id": organization_id,
        "secret": secret,
        "idempotency_key": f"provider_connection:{new_id()}",
        "actor": ACTOR,
        "now": clock.now(),
    }
    if options["replace"]:
        return operations.replace_provider_secret(
            connection_id=decode_id("pvc", options["replace"]),
            overlap_seconds=options["overlap_seconds"],
            **common,
        )
    return operations.add_provider_connection(
        provider=options["provider"], name=options["name"], **common
    )


def _read_secret() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("The provider's secret (whsec_…): ").strip()
    return sys.stdin.readline().strip()
