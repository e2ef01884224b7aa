"""The browser in which pages are looked at, and the windows that they have to fit."""

from __future__ import annotations

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_CHROMIUM = pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed")
SIZES = {"desktop": (1400, 900), "phone": (390, 844)}  # width and height in pixels
