"""A developer's machine: real Postgres and Valkey from their wheels, secrets made on the spot."""

import warnings

from config.logging import make_logging
from config.settings import _webhooks
from config.settings._guard import LOCAL_HOSTS
from config.settings.base import *
from dev.local_secrets import ensure_local_secrets

_local = ensure_local_secrets(VAR_DIR)

# Even here an error shows the page that people will see; KASSA_DEBUG=1 brings Django's own.
DEBUG = env.bool("KASSA_DEBUG", default=False)
ALLOWED_HOSTS = [*LOCAL_HOSTS, *env.list("ALLOWED_HOSTS", default=[])]
SECRET_KEY = env.str("SECRET_KEY", default=_local["secret_key"])
KASSA_PEPPERS = env.list("KASSA_PEPPERS", default=[_local["pepper"]])
KASSA_PEPPER = KASSA_PEPPERS[0]
KASSA_KEY_FILE = env.str("KASSA_KEY_FILE", default=_local["key_file"])
STAFF_REQUIRES_SECOND_FACTOR = env.bool("STAFF_REQUIRES_SECOND_FACTOR", default=False)

# A developer has one key and a benchmark in mind.
API_RATE_PER_SECOND = env.int("API_RATE_PER_SECOND", default=5_000)
API_RATE_BURST = env.int("API_RATE_BURST", default=10_000)
API_IN_FLIGHT_MAX = env.int("API_IN_FLIGHT_MAX", default=200)

# Static files are served from where they stand, without collectstatic.
WHITENOISE_USE_FINDERS = True
STATIC_ROOT = None

# The sandbox and a developer's own receiver listen on loopback, on any port, without TLS.
WEBHOOK_ALLOW_NETWORKS = _webhooks.read_networks(
    "WEBHOOK_ALLOW_NETWORKS", env.list("WEBHOOK_ALLOW_NETWORKS", default=["127.0.0.0/8"])
)
# Ctrl-C ends the workers at once: what they had not finished is in its row, and goes on next time.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 0
# In a container a developer is root; the danger it warns of, pickled messages, is off.
warnings.filterwarnings("ignore", message="You're running the worker with superuser")

# The demo pays out the minute a destination is made.
PAYOUT_COOLDOWN_HOURS = env.int("PAYOUT_COOLDOWN_HOURS", default=0)
SANDBOX_URL = env.str("SANDBOX_URL", default="http://127.0.0.1:8010")

LOGGING = make_logging(
    level=env.str("KASSA_LOG_LEVEL", default="INFO"),
    form=env.str("KASSA_LOG_FORMAT", default="console"),
)
SENTRY_ENVIRONMENT = env.str("SENTRY_ENVIRONMENT", default="local")
