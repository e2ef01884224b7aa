"""``manage.py checkworker``: does a worker of this host live? For the health check of its container."""

from __future__ import annotations

import socket
import sys
from typing import Any

from django.core.management.base import BaseCommand

from tasks import clock
from tasks.lifecycle.workers import ALIVE_FOR
from tasks.models import Worker
from tasks.models.task import database


class Command(BaseCommand):
    help = "Exit with 0 if a worker of this host lives, else with 1."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        host, alias = socket.gethostname(), database()
        since = clock.now(alias) - ALIVE_FOR
        seen = Worker.objects.using(alias).filter(host=host, last_seen_at__gt=since).count()
        self.stdout.write(f"{seen} workers of {host} seen within {ALIVE_FOR.total_seconds():g} s")
        sys.exit(0 if seen else 1)
