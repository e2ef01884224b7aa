"""Where each part of the HTTP surface begins."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("admin", RedirectView.as_view(pattern_name="admin:index")),  # what people type
    path("admin/", admin.site.urls),
    path("", include("tasks.api.urls")),
    path("", include("tasks.ops.urls")),
]

handler400 = "tasks.api.problems.bad_request"
handler403 = "tasks.api.problems.forbidden"
handler404 = "tasks.api.problems.not_found"
handler500 = "tasks.api.problems.server_error"
