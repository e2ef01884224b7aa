"""Django's settings, from environment variables; the README lists them all."""

from __future__ import annotations

from pathlib import Path

from tasks.conf import AUTHENTICATION
from taskservice import env
from taskservice.cache import cache
from taskservice.database import database, secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

# --- what is decided outside

DEBUG = env.boolean("DEBUG", default=False)
HOST = env.text("HOST", "127.0.0.1")
PORT = env.integer("PORT", 8080, least=0, most=65535)  # 0: any free one, `serve` says which
ALLOWED_HOSTS = [*env.words("ALLOWED_HOSTS"), "localhost", "127.0.0.1", "[::1]"]  # health checks ask those
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS")
HTTPS = env.boolean("HTTPS", default=False)
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ["DEBUG", "INFO", "WARNING", "ERROR"])
LOG_FORMAT = env.choice("LOG_FORMAT", "text", ["text", "json"])
REDIS_URL = env.redis_url("REDIS_URL")
API_PROCESSES = env.integer("TASKSERVICE_API_PROCESSES", 2, least=1, most=64)
API_THREADS = env.integer("TASKSERVICE_API_THREADS", 16, least=1, most=256)

TASKSERVICE = {
    "lease_for": env.seconds("TASKSERVICE_LEASE_SECONDS", 30, least=1, most=43_200),
    "grace": env.seconds("TASKSERVICE_GRACE_SECONDS", 25, least=0, most=43_200),
    "timeout": env.seconds("TASKSERVICE_TIMEOUT_SECONDS", 300, least=1),
    "max_attempts": env.integer("TASKSERVICE_MAX_ATTEMPTS", 5, least=1, most=1000),
    "workers": env.integer("TASKSERVICE_WORKERS", 3, least=1, most=256),
    "default_handler": env.text("TASKSERVICE_DEFAULT_HANDLER", "demo.sleep"),
    "pooler": env.boolean("TASKSERVICE_POOLER", default=False),
    "listen_url": env.postgres_url("TASKSERVICE_LISTEN_URL"),
    "authentication": env.choice("TASKSERVICE_AUTH", "local", AUTHENTICATION),
    "redis_url": REDIS_URL,
    "tracing": env.boolean("TASKSERVICE_OTEL", default=env.text("OTEL_EXPORTER_OTLP_ENDPOINT") != ""),
    "max_pending": env.integer("TASKSERVICE_MAX_PENDING", 1_000_000, least=0, most=1_000_000_000),
    "throttle_burst": env.rate("TASKSERVICE_THROTTLE_BURST", "5000/s"),
    "throttle_sustained": env.rate("TASKSERVICE_THROTTLE_SUSTAINED", "150000/min"),
    "throttle_wrong_tokens": env.rate("TASKSERVICE_THROTTLE_WRONG_TOKENS", "60/min"),
    "proxies": env.integer("TASKSERVICE_PROXIES", 1 if HTTPS else 0, least=0, most=16),
    "recycle_after_tasks": env.integer("TASKSERVICE_RECYCLE_TASKS", 10_000, least=0, most=1_000_000_000),
    "keep_completed": env.days("TASKSERVICE_KEEP_COMPLETED_DAYS", 7, least=0.001),
    "keep_failed": env.days("TASKSERVICE_KEEP_FAILED_DAYS", 30, least=0.001),
    "keep_cancelled": env.days("TASKSERVICE_KEEP_CANCELLED_DAYS", 30, least=0.001),
    "version": env.text("TASKSERVICE_VERSION")[:64],
    "recycle_above_mb": env.integer("TASKSERVICE_RECYCLE_MB", 512, least=0),
}

# --- what is in it

INSTALLED_APPS = [
    "tasks",  # before the admin: its templates stand in for the admin's
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    *env.apps("TASKSERVICE_APPS"),
]

MIDDLEWARE = [
    "tasks.ops.metering.metered",
    "tasks.ops.correlation.correlated",
    "tasks.ops.heads.without_bodies",
    "django.middleware.security.SecurityMiddleware",
    "tasks.ops.health.probes",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "taskservice.urls"
WSGI_APPLICATION = "taskservice.wsgi.application"
ASGI_APPLICATION = "taskservice.asgi.application"
GUNICORN_CONFIG = BASE_DIR / "taskservice" / "gunicorn.conf.py"
APPEND_SLASH = False  # /tasks has none, and a POST cannot be redirected

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],  # never the admin's session: a page of another site could use it
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
    "EXCEPTION_HANDLER": "tasks.api.problems.exception_handler",
}

DATABASES = {"default": database(BASE_DIR)}
CACHES = {"default": cache(REDIS_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TASKS = {"default": {"BACKEND": "tasks.backend.DatabaseBackend", "QUEUES": []}}  # no list: any queue
SECRET_KEY = secret_key(DATABASES["default"])

USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False

# --- static files: collected in the image, found where they lie in a checkout

STATIC_URL = "/static/"
_collected = BASE_DIR / "staticfiles"
STATIC_ROOT = _collected if _collected.is_dir() else None
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
WHITENOISE_MAX_AGE = 3600
WHITENOISE_ALLOW_ALL_ORIGINS = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}

# --- security

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

SECURE_CSP = {
    "default-src": ["'self'"],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}
LOGIN_REDIRECT_URL = "admin:index"  # also where a login was to lead to another site
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0  # only sent over https
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [
    r"^(?!admin(/|$))"
]  # people alone are led on: a program's token has been sent by then
# Subdomains and browsers' preloaded lists are decisions about a whole domain, of which this is one host.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
DEFAULT_EXCEPTION_REPORTER_FILTER = "tasks.ops.reports.SecretsHidden"

# --- logs: one event a line, all on stderr, gunicorn's too

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "no-outages": {"()": "tasks.logs.NoOutages"},
        "access": {"()": "tasks.logs.AccessFields"},
    },
    "formatters": {"text": {"()": "tasks.logs.TextFormatter"}, "json": {"()": "tasks.logs.JsonFormatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},  # its own would print twice
        "django.request": {"level": "ERROR", "filters": ["no-outages"]},  # a 404 is the client's affair
        "django.security.DisallowedHost": {"level": "CRITICAL"},  # neither is a name that is not ours
        # task.settled tells of each failure, and a line for each task is half of the time a task costs
        "django.tasks": {"level": "CRITICAL"},
        "gunicorn.error": {"handlers": ["console"], "level": "WARNING", "propagate": False},
        "gunicorn.access": {
            "filters": ["access"],
            "handlers": ["console"],
            "level": "INFO",
            "propagate": False,
        },
    },
}
