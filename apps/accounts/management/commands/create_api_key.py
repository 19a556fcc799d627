"""Issue an API key from the machine's own terminal, and show its token once."""

from datetime import timedelta
from typing import Any, override

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import get_resolver

from apps.accounts import operations, queries
from apps.core import clock
from apps.core.actors import Actor
from apps.core.api.caller import declared_scopes
from apps.core.errors import Refusal


class Command(BaseCommand):
    help = "Issue an API key; the token is printed once and stored nowhere."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", help="The name of the organization.")
        parser.add_argument("--issued-by", required=True, help="E-mail of who stands behind it.")
        parser.add_argument("--name", default="from the terminal")
        parser.add_argument("--scope", action="append", default=[], help="All of them, if none.")
        parser.add_argument("--address", action="append", default=[], help="IP address or CIDR.")
        parser.add_argument("--test", action="store_true", help="For the test data.")
        parser.add_argument("--days", type=int, default=90)

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        organization = queries.find_live_organization(name=options["organization"])
        issuer = queries.find_staff(email=options["issued_by"])
        if organization is None or issuer is None:
            raise CommandError("There is no such organization, or no such member of staff.")
        if options["test"]:
            organization = queries.get_test_twin(organization_id=organization.id)
        now = clock.now()
        try:
            issued = operations.create_api_key(
                organization_id=organization.id,
                name=options["name"],
                scopes=options["scope"] or _every_scope(),
                issued_by=issuer.id,
                expires_at=now + timedelta(days=options["days"]),
                addresses=options["address"],
                actor=Actor.job("create_api_key"),
                now=now,
            )
        except Refusal as refusal:
            raise CommandError(refusal.message) from None
        self.stdout.write(issued.token)


def _every_scope() -> frozenset[str]:
    # Views declare their scopes when they are loaded, and the URLs load them.
    _ = get_resolver().url_patterns
    return declared_scopes()
