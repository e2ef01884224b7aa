"""Signals are counted, wake the selector, and never interrupt what they hit."""

from __future__ import annotations

import select
import signal
from collections.abc import Iterator

import pytest

from tasks.worker import stop
from tasks.worker.stop import StopSignals

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


@pytest.fixture
def signals() -> Iterator[StopSignals]:
    """Installed, and taken away again."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    wakeup = signal.set_wakeup_fd(-1)
    made = StopSignals()
    made.install()
    yield made
    signal.set_wakeup_fd(wakeup)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_nothing_is_wanted_before_a_signal(signals: StopSignals) -> None:
    assert not signals.wanted
    assert not signals.at_once
    assert not _is_readable(signals)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_asks_for_an_end_with_grace(signals: StopSignals, number: signal.Signals) -> None:
    signal.raise_signal(number)

    assert signals.wanted
    assert not signals.at_once
    assert signals.first == number


def test_sigquit_asks_for_an_end_at_once(signals: StopSignals) -> None:
    signal.raise_signal(signal.SIGQUIT)

    assert signals.wanted
    assert signals.at_once


def test_the_same_signal_sent_twice_within_a_second_counts_once(signals: StopSignals) -> None:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)

    assert not signals.at_once


def test_a_second_signal_later_than_that_asks_for_an_end_at_once(
    signals: StopSignals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "SAME_SECONDS", 0.0)

    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)

    assert signals.at_once


def test_a_third_signal_is_measured_from_the_first(
    signals: StopSignals, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    monkeypatch.setattr(stop, "SAME_SECONDS", 0.0)

    signal.raise_signal(signal.SIGTERM)

    assert signals.at_once


def test_a_signal_ends_the_sleep_until_it_is_drained(signals: StopSignals) -> None:
    signal.raise_signal(signal.SIGTERM)

    assert _is_readable(signals)
    signals.drain()
    assert not _is_readable(signals)
    signals.drain()  # with nothing there it does not wait


def test_thousands_of_signals_neither_block_nor_raise(signals: StopSignals) -> None:
    for _ in range(5000):
        signal.raise_signal(signal.SIGINT)

    signals.drain()
    assert signals.wanted
    assert not _is_readable(signals)


def _is_readable(signals: StopSignals) -> bool:
    return bool(select.select([signals], [], [], 0)[0])
