"""``settings.TASKSERVICE``: typed, checked, and refused with one sentence."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from tasks import registry
from tasks.checks import check_handlers, check_settings
from tasks.conf import Config, config


def test_everything_has_a_default(settings: Settings) -> None:
    settings.TASKSERVICE = {}

    assert config() == Config()
    assert config().lease_for == timedelta(seconds=30)
    assert config().max_attempts == 5


def test_a_setting_changes_only_what_it_names(settings: Settings) -> None:
    settings.TASKSERVICE = {"workers": 7}

    assert config() == Config(workers=7)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        config().workers = 8  # type: ignore[misc]  # on purpose


def test_unknown_keys_are_refused_by_name(settings: Settings) -> None:
    settings.TASKSERVICE = {"worker": 7, "leese_for": 1}

    with pytest.raises(ImproperlyConfigured, match="leese_for, worker"):
        config()


WRONG: list[tuple[str, Any]] = [
    ("lease_for", timedelta(milliseconds=999)),
    ("lease_for", 30),
    ("grace", timedelta(seconds=-1)),
    ("grace", None),
    ("timeout", timedelta(0)),
    ("timeout", "300"),
    ("max_attempts", 0),
    ("max_attempts", "5"),
    ("workers", 0),
    ("workers", 2.5),
    ("default_handler", None),
    ("max_payload_bytes", 0),
    ("max_result_bytes", 10),
    ("recycle_after_tasks", -1),
    ("recycle_above_mb", -1),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=str)
def test_a_bad_value_is_refused_by_name(settings: Settings, name: str, value: Any) -> None:
    settings.TASKSERVICE = {name: value}

    with pytest.raises(ImproperlyConfigured, match=f"TASKSERVICE: {name} must be"):
        config()


@pytest.mark.parametrize(("name", "value"), WRONG, ids=str)
def test_the_system_checks_say_so_and_do_not_fail_themselves(
    settings: Settings, name: str, value: Any
) -> None:
    registry.load()
    settings.TASKSERVICE = {name: value}

    [message] = check_settings()

    assert check_handlers() == []
    assert message.id == "tasks.E001"
    assert name in message.msg
