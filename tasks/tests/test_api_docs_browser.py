"""The page of the API in a real browser: it fits any window, and asks for nothing that is not there."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.tests.browsers import CHROMIUM, NO_CHROMIUM, SIZES

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [
    NO_CHROMIUM,
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_and_complains_of_nothing(
    live_server: Any, monkeypatch: pytest.MonkeyPatch, size: str, theme: str
) -> None:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # the driver's event loop is in this thread
    width, height = SIZES[size]
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("response", lambda answer: complaints.append(answer.url) if answer.status >= 400 else None)

        page.goto(f"{live_server.url}/docs")

        assert page.evaluate("document.documentElement.scrollWidth") == width
        backdrop = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert backdrop == {"light": "rgb(245, 246, 248)", "dark": "rgb(14, 19, 26)"}[theme]
        page.click("text=Make a task")
        assert page.url.endswith("#createTask")
        browser.close()
    assert complaints == []
