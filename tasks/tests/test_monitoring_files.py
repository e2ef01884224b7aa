"""The dashboard and the alert rules speak of metrics that are served."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.conf import settings

from tasks.api.metrics import FAMILIES
from tasks.tests.api_client import Api, api

__all__ = ["api"]

DOCS = Path(settings.BASE_DIR) / "docs"
DASHBOARD = DOCS / "grafana" / "taskservice.json"
RULES = DOCS / "prometheus" / "alerts.yml"
PROMTOOL = shutil.which("promtool")
ENDINGS = r"(_total|_bucket|_sum|_count)?$"

needs_promtool = pytest.mark.skipif(
    not PROMTOOL, reason="no promtool: `make test` as root, or `apt-get install prometheus`, installs it"
)


def served(api: Api) -> set[str]:
    """The families; one that is of SQLite alone is known on PostgreSQL too."""
    api.get("/healthz")
    text = api.get("/metrics").body.decode()
    found = {re.sub(ENDINGS, "", name) for name in re.findall(r"# TYPE (\w+)", text)}
    return found | {"taskservice_wal_bytes"}


def named_in(text: str) -> set[str]:
    return {re.sub(ENDINGS, "", name) for name in re.findall(r"taskservice_\w+", text)}


def test_each_query_of_the_dashboard_asks_for_what_is_served(api: Api) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

    assert len(queries) > 10
    assert all(named_in(query) for query in queries)
    assert named_in(" ".join(queries)) - served(api) == set()


def test_each_alert_asks_for_what_is_served(api: Api) -> None:
    assert named_in(RULES.read_text()) - served(api) == set()


def test_each_metric_is_on_the_page_about_monitoring(api: Api) -> None:
    page = (DOCS / "monitoring.md").read_text()

    assert [name for name in sorted(served(api)) if name not in page] == []
    assert all(family.name in page for family in FAMILIES)


@needs_promtool
def test_promtool_takes_the_rules_and_they_fire_when_they_should() -> None:
    for words in (["check", "rules", RULES.name], ["test", "rules", "alerts.test.yml"]):
        ran = subprocess.run(
            [str(PROMTOOL), *words], cwd=RULES.parent, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


@needs_promtool
def test_promtool_finds_nothing_wrong_with_what_is_served(api: Api) -> None:
    text = api.get("/metrics").body

    ran = subprocess.run(
        [str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
