"""The admin: a window and a few levers."""

from __future__ import annotations

from django.contrib import admin

from tasks.admin import (  # noqa: F401 - they register their pages
    failures,
    operations,
    queues,
    tasks,
    tokens,
    workers,
)
from tasks.admin.login import LoginForm

admin.site.site_header = admin.site.site_title = "Task service"
admin.site.login_form = LoginForm
admin.site.index_title = "Overview"
admin.site.site_url = None  # there is nothing at / for people
admin.site.enable_nav_sidebar = False  # the header leads to the lists
