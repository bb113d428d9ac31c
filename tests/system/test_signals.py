"""Requests to stop: deferred to the end of a step once, obeyed at once the second time, passed on afterwards."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

import pytest

from selfdistill_cli.errors import Interrupted
from selfdistill_cli.system import signals
from selfdistill_cli.system.signals import SIGNALS, finishing_steps, leaving_when_asked, listening


def send(name: signal.Signals) -> None:
    os.kill(os.getpid(), name)
    time.sleep(0.01)  # the interpreter runs the handler between two instructions


@pytest.mark.parametrize("name", SIGNALS)
def test_outside_the_steps_it_leaves_at_once(name: signal.Signals) -> None:
    with pytest.raises(Interrupted, match="from the last checkpoint") as stop, listening():
        send(name)
    assert stop.value.signal == name


@pytest.mark.parametrize("name", SIGNALS)
def test_inside_the_steps_it_waits_for_the_end_of_one(name: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    with listening(), finishing_steps() as stop:
        assert stop.signal is None
        send(name)
        assert stop.signal == name
    assert "finishing this step" in capfd.readouterr().err


def test_on_a_terminal_the_words_take_the_place_of_the_progress_line(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr("os.isatty", lambda number: True)
    monkeypatch.setattr("os.write", lambda number, words: written.append(words))
    with listening(), finishing_steps():
        send(signal.SIGINT)
    (words,) = written
    assert words.startswith(b"\r\x1b[2Ksdrun: finishing this step")
    assert words.endswith(b"\n")


def test_the_second_of_its_kind_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SAME_REQUEST_SECONDS", 0.0)
    with listening(), finishing_steps() as stop:
        send(signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(Interrupted):
            send(signal.SIGINT)


def test_a_signal_that_came_by_two_ways_is_one_request() -> None:
    with listening(), finishing_steps() as stop:
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert stop.signal == signal.SIGINT


def test_the_end_of_a_time_limit_after_its_announcement_does_not_cut_the_checkpoint_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals, "SAME_REQUEST_SECONDS", 0.0)
    with listening(), finishing_steps() as stop:
        send(signal.SIGUSR2)
        send(signal.SIGTERM)
        assert stop.signal == signal.SIGUSR2


def test_in_a_batch_job_of_slurm_sigterm_asks_for_a_checkpoint_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")
    with listening():
        send(signal.SIGTERM)  # outside the steps there is nothing to do
        with finishing_steps() as stop:
            send(signal.SIGTERM)
            assert stop.signal == signal.SIGTERM
            assert stop.goes_on_after(signal.SIGTERM)
            assert not stop.goes_on_after(signal.SIGUSR2)


def test_who_listened_before_is_told_afterwards_and_only_of_an_interruption() -> None:
    told: list[int] = []

    def earlier(number: int, frame: FrameType | None) -> None:
        told.append(number)

    before = signal.signal(signal.SIGUSR2, earlier)
    try:
        with listening():
            pass
        assert told == []
        with pytest.raises(Interrupted), listening():
            send(signal.SIGUSR2)
        assert told == [signal.SIGUSR2]
        assert signal.getsignal(signal.SIGUSR2) is earlier
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_the_next_run_of_the_process_was_asked_nothing() -> None:
    with pytest.raises(Interrupted), listening():
        send(signal.SIGTERM)
    with finishing_steps() as stop:
        assert stop.signal is None


def in_a_library_that_turns_exceptions_into_others() -> None:
    try:
        send(signal.SIGTERM)
    except BaseException as error:
        raise AttributeError("'NoneType' object has no attribute") from error


def test_a_library_that_turns_the_exception_into_another_does_not_hide_it() -> None:
    with pytest.raises(Interrupted), listening(), leaving_when_asked():
        in_a_library_that_turns_exceptions_into_others()


class Destroyed:
    """Signals as it is destroyed, where Python ignores exceptions."""

    def __del__(self) -> None:
        send(signal.SIGTERM)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_that_python_ignored_is_raised_at_the_end_of_the_block() -> None:
    with pytest.raises(Interrupted), listening(), leaving_when_asked():
        Destroyed()


def test_an_exception_that_python_ignored_is_raised_before_the_steps() -> None:
    began = []
    with listening():
        Destroyed()
        with pytest.raises(Interrupted), finishing_steps():
            began.append(True)
    assert not began
