"""All settings, one file: paths, secrets, apps, middleware, database, auth, i18n, static, mail, queue, import/export,
Unfold, logging. Production is the default; DEBUG=1 (which `make run` puts into data/.env) is a desk on one machine."""

import os
import secrets
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy

from project import env

VERSION = "0.1.0"  # as in pyproject.toml

# --- Paths and mode ---
BASE_DIR = Path(__file__).resolve().parent.parent
env.load_env_file()
DATA_DIR = BASE_DIR / env.text("DATA_DIR", "data")
DEBUG = env.boolean("DEBUG")
SITE_URL = env.site_url("SITE_URL", "http://localhost:8000")
SITE_IS_LOCAL = urlsplit(SITE_URL).hostname in {"localhost", "127.0.0.1", "::1"}

# --- Secrets ---
# Commands that only build (collectstatic) run without keys: they get throw-away ones, and crm.checks refuses to serve
# or to write with them.
MISSING_SECRETS: list[str] = []


def _secret(name: str) -> str:
    value = env.text(name)
    if value:
        return value
    MISSING_SECRETS.append(name)
    return secrets.token_urlsafe(48)


SECRET_KEY = _secret("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.items("SECRET_KEY_FALLBACKS")
SEARCH_KEY = _secret("SEARCH_KEY")
FIELD_ENCRYPTION_KEY = env.field_keys()
if not FIELD_ENCRYPTION_KEY:
    MISSING_SECRETS.append("FIELD_ENCRYPTION_KEY")
    FIELD_ENCRYPTION_KEY = [env.throw_away_key()]
# The seal of the audit trail: the first one seals, the others verify. The web needs none.
AUDIT_KEYS = env.items("AUDIT_KEY")
AUDIT_ANCHOR = env.text("AUDIT_ANCHOR")
AUDIT_KEEP_YEARS = env.integer("AUDIT_KEEP_YEARS", 0)
# The first one writes backups, all read them. Without one there are none, and everything says so.
BACKUP_KEYS = env.keys("BACKUP_KEY")

# --- Hosts ---
ALLOWED_HOSTS = [*{urlsplit(SITE_URL).hostname, *env.items("ALLOWED_HOSTS")}]
if DEBUG:
    ALLOWED_HOSTS += ["localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = [SITE_URL, *env.items("CSRF_TRUSTED_ORIGINS")]

# --- Apps ---
INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",  # without its own admin site: ours is crm.admin.site
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "unfold.contrib.inlines",
    "unfold.contrib.import_export",
    "unfold.contrib.simple_history",
    "crm.apps.OfficeAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "import_export",
    "simple_history",
    "django_q",
    "axes",
    "csp",
    "crm",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"

# --- Middleware ---
MIDDLEWARE = [
    "crm.middleware.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "crm.middleware.UserLanguageMiddleware",
    "crm.middleware.AddressMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "crm.middleware.OperationMiddleware",
    "axes.middleware.AxesMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Our templates override some of Unfold's, which stands first among the apps.
        "DIRS": [BASE_DIR / "crm" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Transport: HTTPS everywhere but on a desk. The scheme comes from uvicorn, which believes X-Forwarded-Proto only
# from FORWARDED_ALLOW_IPS, so there is no SECURE_PROXY_SSL_HEADER here for anybody to forge. ---
SECURE_SSL_REDIRECT = not DEBUG
SECURE_HSTS_SECONDS = 0 if DEBUG else env.integer("HSTS_SECONDS", 365 * 24 * 3600)
SECURE_HSTS_INCLUDE_SUBDOMAINS = not DEBUG
SESSION_COOKIE_SECURE = not DEBUG
CSRF_COOKIE_SECURE = not DEBUG
SESSION_COOKIE_AGE = env.integer("SESSION_HOURS", 12, minimum=1) * 3600
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# W021: preloading is a promise about the whole registered domain, which is the owner's to make.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, UNSAFE_EVAL],  # Alpine, which Unfold brings, evaluates its attributes
        "style-src": [SELF, UNSAFE_INLINE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# --- Database ---
DATABASES = {"default": env.database("DATABASE_URL", f"sqlite:////{str(DATA_DIR / 'hypodesk.sqlite3').lstrip('/')}")}
_database = DATABASES["default"]
if _database["ENGINE"].endswith("sqlite3"):
    Path(_database["NAME"]).parent.mkdir(parents=True, exist_ok=True)
    # Measured with four writers: without IMMEDIATE more than half of the writes failed as locked.
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    _options = _database.setdefault("OPTIONS", {})
    if _database.get("HOST") not in {"", None, "localhost", "127.0.0.1", "::1"}:
        _options.setdefault("sslmode", "require")
    # Only the web process pools: forked queue workers that share a pool read each other's answers.
    if env.boolean("DATABASE_POOL"):
        _options["pool"] = {"min_size": 1, "max_size": env.integer("DATABASE_POOL_SIZE", 8, minimum=1)}
    _database["CONN_MAX_AGE"] = 0
    _database["CONN_HEALTH_CHECKS"] = True

# --- Login ---
AUTH_USER_MODEL = "crm.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in {
        "UserAttributeSimilarityValidator": {},
        "MinimumLengthValidator": {"min_length": 10},
        "CommonPasswordValidator": {},
        "NumericPasswordValidator": {},
    }.items()
]
LOGIN_URL = reverse_lazy("admin:login")
LOGIN_REDIRECT_URL = reverse_lazy("admin:index")
PASSWORD_RESET_TIMEOUT = 3 * 24 * 3600
# An account or an address that fails too often waits, and is let in again by itself, also while somebody goes on trying.
AXES_LOCKOUT_PARAMETERS = ["username", "ip_address"]
AXES_FAILURE_LIMIT = env.integer("LOGIN_FAILURE_LIMIT", 10, minimum=1)
AXES_COOLOFF_TIME = timedelta(minutes=env.integer("LOGIN_LOCKOUT_MINUTES", 15, minimum=1))
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_CALLABLE = "crm.middleware.locked_out"
AXES_ENABLE_ADMIN = False

# --- The office ---
ADVISER_SCOPE = env.choice("ADVISER_SCOPE", "all", ("all", "own"))
DEADLINES_ON_WORKING_DAYS = env.boolean("DEADLINES_ON_WORKING_DAYS", True)
HOLIDAYS_COUNTRY = env.text("HOLIDAYS_COUNTRY", "CZ")
REMIND_DAYS_BEFORE = env.integer("REMIND_DAYS_BEFORE", 3, minimum=1)
REMIND_EVERY_DAYS = env.integer("REMIND_EVERY_DAYS", 7, minimum=1)
REMIND_TIMES = env.integer("REMIND_TIMES", 4)
RETENTION_YEARS = env.integer("RETENTION_YEARS", 10, minimum=1)
UPLOAD_LIMIT_MB = env.integer("UPLOAD_LIMIT_MB", 20, minimum=1)
ADMIN_EMAIL = env.text("ADMIN_EMAIL")

# --- Backups ---
BACKUP_DIR = BASE_DIR / env.text("BACKUP_DIR", "backups")
# Hours between two, 0: the nightly one only.
BACKUP_EVERY = env.hours("BACKUP_EVERY")
BACKUP_NIGHTLY_DAYS = env.integer("BACKUP_NIGHTLY_DAYS", 30, minimum=1, maximum=3650)
BACKUP_WEEKLY_WEEKS = env.integer("BACKUP_WEEKLY_WEEKS", 13, minimum=1, maximum=520)
BACKUP_KEEP_LEAST = env.integer("BACKUP_KEEP_LEAST", 7, minimum=1)
# Heroku and Dokku name the process, Render itself: what is written there is gone with the next start. 0 where a disk is kept.
BACKUPS_ON_THROWAWAY_DISK = env.boolean("BACKUPS_ON_THROWAWAY_DISK", bool({"DYNO", "RENDER"} & os.environ.keys()))
# Where a restore is tried on PostgreSQL if the role may make neither a database nor a schema.
VERIFY_DATABASE_URL = env.postgresql_url("VERIFY_DATABASE_URL")
# Any S3-compatible store; crm.checks asks for what is missing.
S3_BUCKET = env.text("S3_BUCKET")
S3_ACCESS_KEY_ID = env.text("S3_ACCESS_KEY_ID")
S3_SECRET_ACCESS_KEY = env.text("S3_SECRET_ACCESS_KEY")
S3_ENDPOINT_URL = env.store_url("S3_ENDPOINT_URL")
S3_REGION = env.text("S3_REGION")
S3_PREFIX = env.text("S3_PREFIX").strip("/")

# --- Language ---
LANGUAGE_CODE = env.choice("LANGUAGE_CODE", "cs", ("cs", "en"))
LANGUAGES = [("cs", "Čeština"), ("en", "English")]
# Named so that the office's words go before those of any package.
LOCALE_PATHS = [BASE_DIR / "crm" / "locale"]
TIME_ZONE = env.text("TIME_ZONE", "Europe/Prague")
USE_TZ = True

# --- Static files and uploads ---
# Outside STATIC_ROOT and of no address: nobody but the application hands out what stands there.
MEDIA_ROOT = DATA_DIR / "files"
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
# Uploads hold personal data: they stay in memory, never in a temporary folder, and their size is limited before that.
# What is stored is read by the office's own user alone.
FILE_UPLOAD_PERMISSIONS, FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o600, 0o700
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]
# crm.middleware.BodyLimit refuses a longer body; a shorter one Django would put into a file. One more for the form.
FILE_UPLOAD_MAX_MEMORY_SIZE = (UPLOAD_LIMIT_MB + 1) * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5000

# --- Mail: sent by crm.outbox alone. Without EMAIL_URL messages wait; a desk (DEBUG) writes them into a folder ---
_mail = env.mail_server("EMAIL_URL") or (env.mail_folder(DATA_DIR / "mail") if DEBUG else None)
EMAIL_IS_SET = _mail is not None
globals().update(_mail or {"EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend"})
EMAIL_TIMEOUT = 20
# For the answer to a mail's text: a server that is slow to say yes has it already. Less than half of crm.outbox.LEASE.
EMAIL_ANSWER_TIMEOUT = 300
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.mail_sender(
    "DEFAULT_FROM_EMAIL", f"Hypodesk <noreply@{urlsplit(SITE_URL).hostname}>"
)

# --- Queue: the measured sane set; the database is the broker ---
# A cluster for each queue of crm.choices.QueueName. Jobs are claimed, retried and looked after by crm.jobs.
Q_CLUSTER = {
    "name": "hypodesk",
    "cluster_name": "quick",
    "orm": "default",
    "workers": 2,
    "queue_limit": 2,
    "bulk": 1,
    # Seconds: an idle worker costs little, a job that was asked for by hand begins soon enough.
    "poll": 0.5,
    "guard_cycle": 1,
    "timeout": 4 * 60 * 60,
    "retry": 5 * 60 * 60,
    "max_attempts": 1,
    "ack_failures": True,
    "recycle": 200,
    "save_limit": -1,
    "scheduler": False,
    "label": gettext_lazy("Queue"),
}

# --- History, import, export ---
SIMPLE_HISTORY_REVERT_DISABLED = True
IMPORT_EXPORT_IMPORT_PERMISSION_CODE = "import"
IMPORT_EXPORT_EXPORT_PERMISSION_CODE = "export"
IMPORT_EXPORT_SKIP_ADMIN_LOG = True

# --- Unfold ---
UNFOLD = {
    "SITE_TITLE": "Hypodesk",
    "SITE_HEADER": "Hypodesk",
    "SITE_SYMBOL": "real_estate_agent",
    "SITE_URL": None,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "crm.admin.navigation.favicon"}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_LANGUAGES": True,
    "LANGUAGES": {"action": "crm.admin.navigation.language_switch"},
    "ENVIRONMENT": "crm.admin.navigation.environment",
    "DASHBOARD_CALLBACK": "crm.admin.dashboard.my_day",
    "STYLES": ["crm.admin.navigation.stylesheet"],
    "SCRIPTS": ["crm.admin.navigation.script"],
    "ACCOUNT": {"navigation": "crm.admin.navigation.account_links"},
    "COMMAND": {"search_callback": "crm.admin.navigation.search_clients", "show_history": False},
    "SIDEBAR": {"show_search": True, "navigation": "crm.admin.navigation.sidebar"},
    # Petrol. 600 carries white text, 500 stands on the dark ground: both above 4.5:1.
    "COLORS": {
        "primary": {
            "50": "oklch(97.5% .013 225)",
            "100": "oklch(95% .03 225)",
            "200": "oklch(90% .055 225)",
            "300": "oklch(83% .09 225)",
            "400": "oklch(76% .11 226)",
            "500": "oklch(68% .115 228)",
            "600": "oklch(51% .1 230)",
            "700": "oklch(45% .09 232)",
            "800": "oklch(39% .075 234)",
            "900": "oklch(34% .06 236)",
            "950": "oklch(26% .045 238)",
        },
    },
}

# --- Logging: to standard output, where every host looks; no request bodies, no values, no secret addresses ---
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "filters": {"secrets": {"()": "project.logs.WithoutSecrets"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["secrets"]}},
    "root": {"handlers": ["console"], "level": env.text("LOG_LEVEL", "INFO")},
    # Named, so that Django's own handlers, which know of no secrets, are gone.
    "loggers": {
        "django": {"level": "INFO"},
        "axes": {"level": "WARNING"},
        "django-q": {"level": "WARNING"},
        # They tell each letter of a page, and those that the font lacks.
        "fontTools": {"level": "ERROR"},
        "fpdf": {"level": "ERROR"},
        # They tell each request, with its signature.
        "boto3": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
    },
}
