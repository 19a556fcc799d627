"""
What holds everywhere, grouped by concern. The environment is read in this package alone.

A secret may stand in a file: where NAME_FILE is set, its content is NAME.
"""

import os
from pathlib import Path

import django_stubs_ext
import environ

from config.logging import make_logging
from config.settings import _celery, _database, _mail, _unfold, _webhooks
from config.settings._guard import at_least

django_stubs_ext.monkeypatch()

env = environ.FileAwareEnv()

BASE_DIR = Path(__file__).resolve().parents[2]
VAR_DIR = BASE_DIR / "var"

# Which process this is: it decides time limits, connections and how long Redis is waited for.
# web | worker (prefork) | threads | beat | supervisor | exporter | command
KASSA_ROLE = env.str("KASSA_ROLE", default="command")

# Which look the back office has: unfold, or stock, which is Django's own.
KASSA_ADMIN_THEME = env.str("KASSA_ADMIN_THEME", default="unfold")

# --- Applications -----------------------------------------------------------------------------

INSTALLED_APPS = [
    *_unfold.admin_apps(KASSA_ADMIN_THEME),
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "pgtrigger",
    "rest_framework",
    "drf_spectacular",
    "csp",
    "apps.core",
    "apps.accounts",
    "apps.ledger",
    "apps.webhooks",
    "apps.banking",
    "apps.approvals",
    "apps.risk",
    "apps.payments",
    "apps.payouts",
    "apps.settlements",
    "apps.reconciliation",
    "apps.backoffice.apps.BackofficeConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.middleware.RequestContextMiddleware",
    "config.middleware.ApiHeadersMiddleware",
    "config.middleware.StaffFormsMiddleware",
    "config.middleware.StaffSessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
]

ROOT_URLCONF = "config.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates" / f"_{KASSA_ADMIN_THEME}", BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

UNFOLD = _unfold.UNFOLD

# --- Language and time ------------------------------------------------------------------------

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True

# --- People -----------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.Staff"
LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/admin/"
LOGOUT_REDIRECT_URL = "/admin/login/"
PASSWORD_HASHERS = [
    "apps.core.passwords.PacedArgon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
PASSWORD_LENGTH_MIN = 15
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": PASSWORD_LENGTH_MIN},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# Tries to sign in within an hour, of one name and from one address (ADR 0143).
SIGN_INS_OF_NAME_MAX = 20
SIGN_INS_OF_ADDRESS_MAX = 100

# Without a verified second factor nobody does more than look; a developer's machine has no phones.
STAFF_REQUIRES_SECOND_FACTOR = True

SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_AGE = 8 * 60 * 60
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Strict"
CSRF_COOKIE_SAMESITE = "Strict"
CSRF_FAILURE_VIEW = "config.middleware.answer_forged"

# --- Browser ----------------------------------------------------------------------------------

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    # The API's own, stricter policy comes from ApiHeadersMiddleware.
    "EXCLUDE_URL_PREFIXES": ["/v1/", "/hooks/"],
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src-elem": ["'self'"],
        # Alpine shows and hides by style attributes; an attribute runs nothing.
        "style-src-attr": ["'unsafe-inline'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    },
}

# --- Limits of a request ----------------------------------------------------------------------

DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# How many proxies of our own stand before us: so many hops of X-Forwarded-For are believed.
OWN_PROXIES = env.int("OWN_PROXIES", default=0)

# What one key may ask, reads and writes each; an organization's keys together so many times that.
API_RATE_PER_SECOND = env.int("API_RATE_PER_SECOND", default=100)
API_RATE_BURST = env.int("API_RATE_BURST", default=200)
API_IN_FLIGHT_MAX = env.int("API_IN_FLIGHT_MAX", default=20)
API_ORGANIZATION_FACTOR = 4
# Among so many processes the limits are shared out where they cannot be counted together.
WEB_PROCESSES = env.int("WEB_CONCURRENCY", default=os.cpu_count() or 1)
# Threads of each, of Django and of the express lane: together no more than its pool has connections
# and waiters (40), or a cold start turns some away; the lane's less than its connections (8), so
# that Django always finds one.
WEB_THREADS = env.int("WEB_THREADS", default=26)
WEB_LANE_THREADS = env.int("WEB_LANE_THREADS", default=6)
# The cores that the server shares out among its processes, as it tells them; empty: none is kept to
# one.
WEB_CORES = frozenset(int(core) for core in env.list("KASSA_CORES", default=[]) if core)

# --- REST -------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    # A view that names no authentication of its own is open to nobody.
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Kassa",
    "DESCRIPTION": "Money in, moved, paid out and proved.",
    "VERSION": "2026-11-01",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/v1/",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    # Codes stand where they are used: a shared list would tie fields together that only look alike.
    "POSTPROCESSING_HOOKS": [],
}

# --- Database, cache, work --------------------------------------------------------------------

DATABASES = {"default": _database.make_database(env, role=KASSA_ROLE, var=VAR_DIR)}

REDIS_URL, CACHE_URL = _database.find_redis(env, var=VAR_DIR)
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": CACHE_URL,
        "OPTIONS": {"socket_connect_timeout": 0.3, "socket_timeout": 0.3},
    },
}

globals().update(_celery.make_celery(broker_url=REDIS_URL, role=KASSA_ROLE))

# Where a worker's supervisor sees that it is at work; the supervisor sets it.
KASSA_WORKER_MARKS = env.str("KASSA_WORKER_MARKS", default="")

# --- E-mail -----------------------------------------------------------------------------------

# smtp+tls://user:password@host:587 (STARTTLS) or smtp+ssl://…:465
globals().update(_mail.make_mail(env, var=VAR_DIR))
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Kassa <no-reply@kassa.invalid>")

# --- Static files -----------------------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT: Path | None = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]

# --- Secrets of the house ---------------------------------------------------------------------

# The peppers of key hashes and blind indexes, the current one first; older ones still verify.
KASSA_PEPPERS: list[str] = env.list("KASSA_PEPPERS", default=[])
KASSA_PEPPER = KASSA_PEPPERS[0] if KASSA_PEPPERS else ""
# The ring of key-encryption keys: {"current": "<id>", "keys": {"<id>": "<32 bytes in base64>"}}.
KASSA_KEY_FILE = env.str("KASSA_KEY_FILE", default="")

# --- What the pages of an area call a setting -------------------------------------------------

# Ports and networks a client's webhook may be on; plain http and private networks are for tests,
# the sandbox and bench/, and production refuses them.
WEBHOOK_PORTS = _webhooks.read_ports("WEBHOOK_PORTS", env.list("WEBHOOK_PORTS", default=["443"]))
WEBHOOK_ALLOW_NETWORKS = _webhooks.read_networks(
    "WEBHOOK_ALLOW_NETWORKS", env.list("WEBHOOK_ALLOW_NETWORKS", default=[])
)
WEBHOOK_DENY_NETWORKS = _webhooks.read_networks(
    "WEBHOOK_DENY_NETWORKS", env.list("WEBHOOK_DENY_NETWORKS", default=[])
)
# The proxy that webhooks leave by, host:port. Production names one, or says none (docs/egress.md).
WEBHOOK_EGRESS_PROXY = _webhooks.read_proxy(
    "WEBHOOK_EGRESS_PROXY", env.str("WEBHOOK_EGRESS_PROXY", default="")
)
# The database drops nothing younger than a month, so fewer days would be a promise nobody keeps.
EVENT_RETENTION_DAYS = at_least(
    30, "EVENT_RETENTION_DAYS", env.int("EVENT_RETENTION_DAYS", default=90)
)
PAYOUT_COOLDOWN_HOURS = env.int("PAYOUT_COOLDOWN_HOURS", default=24)
PAYOUT_DUPLICATE_HOURS = env.int("PAYOUT_DUPLICATE_HOURS", default=6)
PAYOUT_BATCH_MAX = env.int("PAYOUT_BATCH_MAX", default=10_000)
PAYOUT_RETURN_FEE_MAX_MINOR = env.int("PAYOUT_RETURN_FEE_MAX_MINOR", default=25_00)
SANDBOX_URL = env.str("SANDBOX_URL", default="")

# Where a fault test has a process die in the midst of its work; production refuses any.
KASSA_FAILPOINTS = env.str("KASSA_FAILPOINTS", default="")

# --- Seeing -----------------------------------------------------------------------------------

LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = make_logging(
    level=env.str("KASSA_LOG_LEVEL", default="INFO"),
    form=env.str("KASSA_LOG_FORMAT", default="json"),
)
# Where the processes of a machine count; empty: nowhere. They and the exporter share it.
KASSA_METRICS_DIR = env.str("KASSA_METRICS_DIR", default=str(VAR_DIR / "metrics"))
SENTRY_DSN = env.str("SENTRY_DSN", default="")
SENTRY_ENVIRONMENT = env.str("SENTRY_ENVIRONMENT", default="production")
