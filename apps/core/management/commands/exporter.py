"""manage.py exporter: answer Prometheus on an internal port."""

from argparse import ArgumentParser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final, override

import structlog
from django.core.management.base import BaseCommand

from apps.core import metrics

log = structlog.get_logger(__name__)

# Whoever connects and says nothing must not keep others waiting.
_CLIENT_SECONDS_MAX: Final = 5


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_SECONDS_MAX
    server_version = "kassa"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        body = metrics.render().encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", metrics.CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Write no line for each scrape; Prometheus knows whether it was answered."""


class Command(BaseCommand):
    help = "Serve /metrics: gauges read from Postgres, and what this machine's processes counted."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--bind", default="127.0.0.1:9101", help="Address and port, for inside alone."
        )

    @override
    def handle(self, *, bind: str, **_: object) -> None:
        host, _colon, port = bind.rpartition(":")
        # One after the other: a scrape is some bounded reads, and there is one who scrapes.
        with HTTPServer((host.strip("[]"), int(port)), _Handler) as server:
            log.info("exporter_listens", port=server.server_port)
            server.serve_forever()
