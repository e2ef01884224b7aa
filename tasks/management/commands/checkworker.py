"""``manage.py checkworker``: does a worker of this host live? For the health check of its container."""

from __future__ import annotations

import socket
import sys
from typing import Any

from django.core.management.base import BaseCommand

from tasks import clock
from tasks.conf import config
from tasks.models import Worker


class Command(BaseCommand):
    help = "Exit with 0 if a worker of this host was seen within a lease, else with 1."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        host = socket.gethostname()
        since = clock.now("default") - config().lease_for
        seen = Worker.objects.filter(host=host, last_seen_at__gt=since).count()
        self.stdout.write(f"{seen} workers of {host} seen within {config().lease_for.total_seconds():g} s")
        sys.exit(0 if seen else 1)
