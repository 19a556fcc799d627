"""Write docs/openapi.yaml from views and events, or say that it no longer fits them."""

from pathlib import Path
from typing import Any, override

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.validation import validate_schema

from apps.core.api import webhooks
from apps.core.events import catalogued_events


class Command(BaseCommand):
    help = "Write docs/openapi.yaml, or with --check only compare it."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        path = Path(settings.BASE_DIR) / "docs" / "openapi.yaml"
        document = _document()
        if not options["check"]:
            path.write_bytes(document)
        elif not path.exists() or path.read_bytes() != document:
            raise CommandError(
                "docs/openapi.yaml no longer fits views and events: manage.py openapi"
            )


def _document() -> bytes:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    webhooks.add_webhooks(schema, [kind for kind in catalogued_events() if kind.public])
    validate_schema(schema)
    # A warning is a shape that clients would have to guess.
    if GENERATOR_STATS:
        GENERATOR_STATS.emit_summary()
        raise CommandError("The document has warnings.")
    written: bytes = OpenApiYamlRenderer().render(schema, renderer_context={})
    return written
