"""Gunicorn's settings. It reads them before Django has any, so the environment is read here too."""

import os

from config.logging import make_logging

bind = os.environ.get("KASSA_BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WEB_CONCURRENCY", str(os.cpu_count() or 1)))
worker_class = "gthread"
threads = int(os.environ.get("WEB_THREADS", "16"))
backlog = 512
timeout = 30
graceful_timeout = 30
keepalive = 5
max_requests = 5000
max_requests_jitter = 500
# Connection pools and tracers do not survive a fork.
preload_app = False

limit_request_line = 4094
limit_request_fields = 50
limit_request_field_size = 8190
forwarded_allow_ips = os.environ.get("KASSA_PROXY_ADDRESSES", "127.0.0.1")
forwarder_headers = ""
header_map = "drop"
permit_obsolete_folding = False
strip_header_spaces = False
casefold_http_method = False
# One strict parser on the way in: two that read a request differently are how one is smuggled.
http_parser = "python"
control_socket_disable = True

# Its own lines are written as all others are.
logconfig_dict = make_logging(
    level=os.environ.get("KASSA_LOG_LEVEL", "INFO"),
    form=os.environ.get("KASSA_LOG_FORMAT", "json"),
)
logconfig_dict["loggers"]["gunicorn.error"] = {"handlers": [], "propagate": True}

# The request's own line is the access log.
accesslog = None
