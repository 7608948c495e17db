"""All settings, in one place. What the environment may say is read by ``costplatform.env``."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from budgets import currencies, failpoints
from costplatform import env, limits, ports
from gateway.addresses import Allowed

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = env.data_directory()

# --- Secrets ---------------------------------------------------------------------------
SECRET_KEY = env.kept_secret("DJANGO_SECRET_KEY")
MASTER_KEY = env.kept_secret("COSTPLATFORM_MASTER_KEY", prefix="sk-")
MASTER_KEY_LENGTH_MIN = 16
if not MASTER_KEY.startswith("sk-") or len(MASTER_KEY) < MASTER_KEY_LENGTH_MIN:
    raise env.SettingError(
        "COSTPLATFORM_MASTER_KEY",
        f"must start with sk- and have at least {MASTER_KEY_LENGTH_MIN} characters",
    )
KEY_PEPPER = env.kept_secret("COSTPLATFORM_KEY_PEPPER")
"""Keys are stored as HMAC under this pepper: who changes it makes every key unknown."""
ENCRYPTION_KEY = env.kept_secret("COSTPLATFORM_ENCRYPTION_KEY")
"""Provider credentials are encrypted under it."""

# --- Web -------------------------------------------------------------------------------
DEBUG = False
PORT = ports.web_port()
HOST = ports.web_host()
WEB_CONCURRENCY = ports.web_processes()
ALLOWED_HOSTS = env.names("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
if "*" in ALLOWED_HOSTS:
    raise env.SettingError(
        "ALLOWED_HOSTS", "must name hosts; * would also admit foreign websockets"
    )
CSRF_TRUSTED_ORIGINS = env.names("CSRF_TRUSTED_ORIGINS", "")
SECURE_COOKIES = env.flag("SECURE_COOKIES", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_HTTPONLY = True
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
LOGIN_REDIRECT_URL = "admin:index"

ROOT_URLCONF = "costplatform.urls"
ASGI_APPLICATION = "costplatform.asgi.application"
APPEND_SLASH = False

INSTALLED_APPS = [
    "unfold",
    # Its pages are found when the URLs are read: only the web needs them.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "costplatform",
    "budgets",
    "spend",
    "gateway",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
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

STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True

AUTH_USER_MODEL = "budgets.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Language and time -----------------------------------------------------------------
LANGUAGE_CODE = "en-us"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = ["costplatform.formats"]

# --- Postgres --------------------------------------------------------------------------
DATABASE_URL = env.running_server("DATABASE_URL", "database_url")
_database = urlsplit(DATABASE_URL)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": unquote(_database.hostname or ""),
        "PORT": _database.port or 5432,
        "NAME": unquote(_database.path.lstrip("/")),
        "USER": unquote(_database.username or ""),
        "PASSWORD": unquote(_database.password or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # A host that vanished without a word is noticed within seconds, not hours.
        "OPTIONS": {
            "connect_timeout": 5,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Live store ------------------------------------------------------------------------
REDIS_URL = env.running_server("REDIS_URL", "redis_url")
STORE_CLIENT = env.choice("STORE_CLIENT", "own", of=("own", "redis-py"))
STORE_TIMEOUT_MS = env.integer("STORE_TIMEOUT_MS", 2_000, low=100, high=30_000)
"""After this long without an answer an outcome counts as unknown."""

# --- Gateway ---------------------------------------------------------------------------
GATEWAY_LANE = env.flag("GATEWAY_LANE", default=True)
GATEWAY_BODY_BYTES_MAX = limits.body_bytes()
GATEWAY_REPLY_BYTES_MAX = env.integer(
    "GATEWAY_REPLY_BYTES_MAX", 64 * 2**20, low=2**20, high=1024 * 2**20
)
GATEWAY_UPSTREAM_CLIENT = env.choice("GATEWAY_UPSTREAM_CLIENT", "own", of=("own", "aiohttp"))
"""Which of the two clients speaks to providers; what callers see is the same."""
GATEWAY_UPSTREAM_SECONDS_MAX = env.integer("GATEWAY_UPSTREAM_SECONDS_MAX", 600, low=1, high=3_600)
GATEWAY_UPSTREAM_CONNECT_SECONDS = env.integer(
    "GATEWAY_UPSTREAM_CONNECT_SECONDS", 10, low=1, high=60
)
GATEWAY_UPSTREAM_IDLE_SECONDS = env.integer("GATEWAY_UPSTREAM_IDLE_SECONDS", 120, low=1, high=3_600)
GATEWAY_UPSTREAM_CONNECTIONS_MAX = limits.upstream_connections()
GATEWAY_ABORT_DRAIN_SECONDS = env.integer("GATEWAY_ABORT_DRAIN_SECONDS", 10, low=0, high=120)
"""How long an upstream is still read for its usage after the client has gone."""
# A reservation must outlive the call it pays for, or the money is lent twice.
GATEWAY_RESERVATION_SECONDS = GATEWAY_UPSTREAM_SECONDS_MAX + GATEWAY_ABORT_DRAIN_SECONDS + 60
GATEWAY_SNAPSHOT_SECONDS = env.integer("GATEWAY_SNAPSHOT_SECONDS", 30, low=1, high=300)
GATEWAY_SNAPSHOT_STALE_SECONDS_MAX = 15 * 60
GATEWAY_MEMBER_SECONDS = env.integer("GATEWAY_MEMBER_SECONDS", 30, low=3, high=300)
"""A gateway process that has not renewed its membership for so long is taken for dead."""
GATEWAY_UNCONFIRMED_EVENTS_MAX = env.integer(
    "GATEWAY_UNCONFIRMED_EVENTS_MAX", 100_000, low=100, high=10_000_000
)
try:
    GATEWAY_ALLOW_PRIVATE_UPSTREAMS = [
        Allowed.of(text) for text in env.names("GATEWAY_ALLOW_PRIVATE_UPSTREAMS", "")
    ]
except ValueError as error:
    raise env.SettingError("GATEWAY_ALLOW_PRIVATE_UPSTREAMS", str(error)) from error
"""Private addresses that upstreams may have, each as CIDR or CIDR:port."""
GATEWAY_ON_STORE_FAILURE = env.choice("GATEWAY_ON_STORE_FAILURE", "reject", of=("reject", "allow"))
"""Whether requests pass unchecked while the live store is away; they are charged afterwards."""
GATEWAY_ON_UNPRICED = env.choice("GATEWAY_ON_UNPRICED", "refuse", of=("refuse", "allow"))
"""Whether models without a price may be called; the cost is added once they have one."""
GATEWAY_ROUTING_STRATEGY = env.choice(
    "GATEWAY_ROUTING_STRATEGY",
    "weighted",
    of=(
        "weighted", "least_busy", "lowest_cost", "latency", "time_to_first_token", "availability",
    ),
)  # fmt: skip
"""In which order the deployments of a model are tried, where no routing rule says so."""
GATEWAY_RETRIES = env.integer("GATEWAY_RETRIES", 2, low=0, high=5)
"""How many further deployments of a model are tried after a failure, where no rule says so."""
RESPONSE_CACHE = env.choice("RESPONSE_CACHE", "off", of=("off", "on"))
"""Whether answers are given again to the same request of the same organization."""
RESPONSE_CACHE_SECONDS = env.integer("RESPONSE_CACHE_SECONDS", 3_600, low=1, high=2_592_000)
RESPONSE_CACHE_BYTES_MAX = env.integer(
    "RESPONSE_CACHE_BYTES_MAX", 64 * 2**20, low=2**20, high=2**40
)
"""What all answers that are kept may take together."""
RESPONSE_CACHE_URL = env.text("RESPONSE_CACHE_URL", "")
"""Where they are kept; empty: in the live store's server."""
if RESPONSE_CACHE_URL and urlsplit(RESPONSE_CACHE_URL).scheme not in {"redis", "rediss"}:
    raise env.SettingError("RESPONSE_CACHE_URL", "must begin with redis:// or rediss://")
RESPONSE_CACHE_TIMEOUT_MS = env.integer("RESPONSE_CACHE_TIMEOUT_MS", 100, low=10, high=5_000)
"""A look-up that takes longer is a miss."""
RESPONSE_CACHE_HIT_PERCENT = env.integer("RESPONSE_CACHE_HIT_PERCENT", 0, low=0, high=100)
"""The share that is charged of what an answer from the cache would have cost."""
GATEWAY_FILES_MAX = env.integer("GATEWAY_FILES_MAX", 1_000, low=1, high=1_000_000)
"""How many input files of batches an organization may have at its providers."""
GATEWAY_BATCH_OUTPUT_BYTES_MAX = env.integer(
    "GATEWAY_BATCH_OUTPUT_BYTES_MAX", 2 * 2**30, low=2**20, high=64 * 2**30
)
"""What is read of a batch's output at most; of a longer one nobody can say what it cost."""
ADAPTIVE_PRIOR_PERCENT = env.integer("ADAPTIVE_PRIOR_PERCENT", 10, low=1, high=100)
"""The share of a ceiling that adaptive budgets hold until such requests are known."""
PLATFORM_CURRENCY = env.text("PLATFORM_CURRENCY", "USD")
try:
    currencies.check(PLATFORM_CURRENCY)
except currencies.UnknownCurrency as error:
    raise env.SettingError("PLATFORM_CURRENCY", str(error)) from error
EXCHANGE_RATE_STALE_DAYS = env.integer("EXCHANGE_RATE_STALE_DAYS", 4, low=0, high=366)
"""A rate older than so many days still counts; what it converts is flagged."""
EXCHANGE_RATE_JUMP_MAX = env.factor("EXCHANGE_RATE_JUMP_MAX", "1.2", high=100)
"""By which factor a rate may differ from the one before it without a person looking at it."""
FETCHED_FROM = re.compile(r"https?://[^\s@]+")
NOT_FETCHED_FROM = "must be an http or https address without a password"
EXCHANGE_RATES_URL = env.text(
    "EXCHANGE_RATES_URL", "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-daily.xml"
)
"""Where rates are fetched from; empty: nowhere."""
if EXCHANGE_RATES_URL and not FETCHED_FROM.fullmatch(EXCHANGE_RATES_URL):
    raise env.SettingError("EXCHANGE_RATES_URL", NOT_FETCHED_FROM)
BUDGET_DENY_STATUS = int(env.choice("BUDGET_DENY_STATUS", "429", of=("429", "422", "402", "403")))

# --- Prices ----------------------------------------------------------------------------
PRICES_URL = env.text("PRICES_URL", "")
if PRICES_URL and not FETCHED_FROM.fullmatch(PRICES_URL):
    raise env.SettingError("PRICES_URL", NOT_FETCHED_FROM)
"""Where a price map in LiteLLM's form is fetched every day, to be proposed; empty: nowhere."""
PRICES_FETCH_SECONDS_MAX = env.integer("PRICES_FETCH_SECONDS_MAX", 60, low=1, high=600)
PRICE_JUMP_MAX = env.integer("PRICE_JUMP_MAX", 10, low=2, high=1_000_000)
"""A rate of a list that changes by more than this factor is only taken if it is confirmed."""

# --- Recorder --------------------------------------------------------------------------
RECORDER_BATCH_EVENTS_MAX = env.integer("RECORDER_BATCH_EVENTS_MAX", 1_000, low=1, high=10_000)
RECORDER_SWEEP_SECONDS = env.integer("RECORDER_SWEEP_SECONDS", 5, low=1, high=300)

# --- Invoices --------------------------------------------------------------------------
INVOICE_DRIFT_PERCENT_MAX = env.integer("INVOICE_DRIFT_PERCENT_MAX", 1, low=0, high=100)
"""Beyond it an import of a provider's invoice is marked as drifting, and told of."""

# --- Metrics ---------------------------------------------------------------------------
METRICS_TOKEN = env.text("METRICS_TOKEN", "")
METRICS_TOKEN_LENGTH_MIN = 16
if METRICS_TOKEN and len(METRICS_TOKEN) < METRICS_TOKEN_LENGTH_MIN:
    raise env.SettingError(
        "METRICS_TOKEN", f"must have at least {METRICS_TOKEN_LENGTH_MIN} characters"
    )
METRICS_CACHE_SECONDS = env.integer("METRICS_CACHE_SECONDS", 5, low=1, high=300)
METRICS_ACCOUNTS_MAX = env.integer("METRICS_ACCOUNTS_MAX", 1_000, low=0, high=100_000)
METRICS_MODELS_MAX = env.integer("METRICS_MODELS_MAX", 200, low=0, high=10_000)

# --- Sandbox provider ------------------------------------------------------------------
SANDBOX = ports.sandbox_wanted()
SANDBOX_PORT = ports.sandbox_port()

# --- Tests of the project ---------------------------------------------------------------
TESTING = env.testing()
COSTPLATFORM_FAILPOINTS = env.text("COSTPLATFORM_FAILPOINTS", "")
STORE_CLOCK_OFFSET_MS_MAX = 366 * 24 * 3_600 * 1_000
STORE_CLOCK_OFFSET_MS = env.integer(
    "COSTPLATFORM_STORE_CLOCK_OFFSET_MS",
    0,
    low=-STORE_CLOCK_OFFSET_MS_MAX,
    high=STORE_CLOCK_OFFSET_MS_MAX,
)
for _name, _value in (
    ("COSTPLATFORM_FAILPOINTS", COSTPLATFORM_FAILPOINTS),
    ("COSTPLATFORM_STORE_CLOCK_OFFSET_MS", STORE_CLOCK_OFFSET_MS),
):
    if _value and not TESTING:
        raise env.SettingError(_name, "is for tests only: it needs COSTPLATFORM_TESTING=on")
try:
    failpoints.arm(COSTPLATFORM_FAILPOINTS)
except ValueError as error:
    raise env.SettingError("COSTPLATFORM_FAILPOINTS", str(error)) from error

# --- Work in the background ------------------------------------------------------------
CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"

# --- API -------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["costplatform.authentication.MasterKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["costplatform.json.ExactJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["costplatform.json.ExactJSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "costplatform.errors.answer",
    "UNAUTHENTICATED_USER": None,
}
DATA_UPLOAD_MAX_MEMORY_SIZE = GATEWAY_BODY_BYTES_MAX
SPECTACULAR_SETTINGS = {
    "TITLE": "costplatform",
    "DESCRIPTION": "Budgets, keys, prices and spend.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # Of two kinds of states one needs a name of its own.
    "ENUM_NAME_OVERRIDES": {"PriceProposalState": "spend.models.ProposalState"},
}

# --- Logs ------------------------------------------------------------------------------
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", of=("DEBUG", "INFO", "WARNING", "ERROR"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "costplatform.logs.LineFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {"django.server": {"handlers": ["stderr"], "propagate": False}},
}

UNFOLD = {
    "SITE_TITLE": "costplatform",
    "SITE_HEADER": "costplatform",
    "SITE_SYMBOL": "account_balance_wallet",
    "SITE_URL": None,
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": "costplatform.navigation.icon"},
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": ["costplatform.navigation.stylesheet"],
    "SIDEBAR": {"navigation": "costplatform.navigation.sidebar"},
    "DASHBOARD_CALLBACK": "costplatform.navigation.dashboard",
}
