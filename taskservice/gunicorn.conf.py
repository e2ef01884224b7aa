"""How gunicorn serves the API and the admin; what can be changed comes from the settings."""

from __future__ import annotations

import logging
import logging.config
import os
import resource
import sys
from pathlib import Path
from typing import Any

chdir = str(Path(__file__).resolve().parent.parent)
sys.path.insert(0, chdir)  # gunicorn reads this file before it goes there
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "taskservice.settings")

from django.conf import settings  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.utils.module_loading import import_string  # noqa: E402

try:
    _host, _port = settings.HOST, settings.PORT
    if settings.DATABASES["default"]["ENGINE"] == "tasks.sqlite":
        import_string("tasks.sqlite.file_systems.refuse_network")(settings.DATABASES["default"]["NAME"])
except ImproperlyConfigured as error:
    sys.exit(f"gunicorn: {error}")

wsgi_app = "taskservice.wsgi:application"
bind = f"[{_host}]:{_port}" if ":" in _host else f"{_host}:{_port}"
worker_class = "tasks.api.server.ApiWorker"
workers = settings.API_PROCESSES
threads = settings.API_THREADS
worker_connections = max(threads + 1, min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100))
preload_app = False  # a pool of database connections must not be open before a fork
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a heartbeat on a slow disk kills workers

timeout = 60
graceful_timeout = 5  # with the workers' grace (25) it has to fit into `--stop-timeout 40`
keepalive = 5
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190
forwarder_headers = ""  # no header moves a request to another path, past the rules that a proxy has for paths

control_socket_disable = True
loglevel = "warning"
accesslog = None  # GUNICORN_CMD_ARGS="--access-logfile -" turns it on
proc_name = "taskservice-api"


def on_starting(server: Any) -> None:
    """Not by logconfig_dict: that would switch the access log on, and its cost for each request."""
    logging.config.dictConfig(settings.LOGGING)
    import_string("tasks.ops.counting.begin")(worker_tmp_dir)


def on_reload(server: Any) -> None:
    logging.config.dictConfig(settings.LOGGING)


def on_exit(server: Any) -> None:
    import_string("tasks.ops.counting.end")()


def when_ready(server: Any) -> None:
    fields = {"url": ", ".join(map(str, server.LISTENERS)), "processes": workers, "threads": threads}
    logging.getLogger("tasks.api").info("api.started", extra={"fields": fields})
