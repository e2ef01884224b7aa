"""Where operators' endpoints are. ``health.probes`` answers them too, for any Host header."""

from __future__ import annotations

from django.urls import path

from tasks.ops import health

urlpatterns = [
    path("healthz", health.Healthz.as_view()),
    path("readyz", health.Readyz.as_view()),
]
