"""Tests: the machine's own Postgres and Valkey, under names of their own."""

from psycopg import IsolationLevel

from config.logging import make_logging
from config.settings import _celery
from config.settings._database import PLANS, make_timeouts
from config.settings._guard import LOCAL_HOSTS
from config.settings.base import *
from dev.local_secrets import ensure_local_secrets

_local = ensure_local_secrets(VAR_DIR / "test")

DEBUG = False
ALLOWED_HOSTS = ["testserver", *LOCAL_HOSTS]
SECRET_KEY = _local["secret_key"]
KASSA_PEPPERS = [_local["pepper"]]
KASSA_PEPPER = KASSA_PEPPERS[0]
KASSA_KEY_FILE = _local["key_file"]
STAFF_REQUIRES_SECOND_FACTOR = False

# People on one machine run their tests against one server at once, and so do pytest's processes.
KASSA_TEST_DB = env.str("KASSA_TEST_DB", default="test_kassa")
_name = "_".join(filter(None, (KASSA_TEST_DB, env.str("PYTEST_XDIST_WORKER", default=""))))

# No pool, which would keep the test database in use, and a worker's timeouts so that a deadlock
# ends a test. But a thread keeps its connection, as those of a pool are kept: a new one reads the
# schema anew, and a test with one request, which lets it go for a moment twice, paid for two.
_database_of_tests = DATABASES["default"]
_database_of_tests["OPTIONS"].pop("pool", None)
if not env.str("DATABASE_URL", default=""):
    # No test kills Postgres on this database, so a commit need not wait for the disk: half the time
    # of the suite was that. What a killed worker or client committed is there all the same.
    _database_of_tests["OPTIONS"]["options"] = (
        f"{make_timeouts('worker')} {PLANS} -c synchronous_commit=off"
    )
# The books promise nothing that only one isolation level keeps: `make test-serializable` tries it.
if env.str("KASSA_ISOLATION", default="") == "serializable":
    _database_of_tests["OPTIONS"]["isolation_level"] = IsolationLevel.SERIALIZABLE
_database_of_tests |= {"CONN_MAX_AGE": None, "TEST": {"NAME": KASSA_TEST_DB}}
# A worker process started by a test finds the database of that test.
if env.bool("KASSA_IN_TEST", default=False):
    _database_of_tests["NAME"] = env.str("KASSA_TEST_DB_NAME")
    _name = _database_of_tests["NAME"]

CACHES["default"]["KEY_PREFIX"] = _name
globals().update(_celery.make_celery(broker_url=REDIS_URL, role=KASSA_ROLE, key_prefix=f"{_name}:"))
# Nobody waits half a minute for a worker to end that a test has finished with.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 0

# The real hash costs a tenth of a second by design; the first hasher makes the hashes of tests.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *PASSWORD_HASHERS]
WHITENOISE_USE_FINDERS = True
STATIC_ROOT = None
WHITENOISE_AUTOREFRESH = True

# Tests of races send more at once than a client may; the limiter's own tests set its limits.
API_IN_FLIGHT_MAX = 1_000
API_RATE_PER_SECOND = API_RATE_BURST = 10_000
SIGN_INS_OF_NAME_MAX = SIGN_INS_OF_ADDRESS_MAX = 10_000

WEBHOOK_ALLOW_NETWORKS = ["127.0.0.0/8"]
LOGGING = make_logging(level="WARNING", form="json")
# A test that looks at counters has a folder of its own.
KASSA_METRICS_DIR = env.str("KASSA_METRICS_DIR", default="")
SENTRY_DSN = ""
