"""No signal to the node is lost, whichever of its threads takes it."""

from __future__ import annotations

import signal
import threading

from rales.runtime.signals import Signals


def _send_through_a_thread(number: signal.Signals) -> None:
    thread = threading.Thread(
        target=lambda: signal.pthread_kill(threading.get_ident(), number), daemon=True
    )
    thread.start()
    thread.join()


def test_a_signal_that_another_thread_took_is_heard() -> None:
    with Signals({signal.SIGUSR1}) as signals:
        # Delivered to a thread while this one is, or soon will be, waiting.
        sender = threading.Timer(0.2, _send_through_a_thread, [signal.SIGUSR1])
        sender.start()
        assert signals.wait() == signal.SIGUSR1
        sender.join()


def test_signals_that_came_before_anybody_waited_are_heard_in_their_order() -> None:
    with Signals({signal.SIGUSR1, signal.SIGUSR2}) as signals:
        _send_through_a_thread(signal.SIGUSR2)
        signal.raise_signal(signal.SIGUSR1)
        assert [signals.wait(), signals.wait()] == [signal.SIGUSR2, signal.SIGUSR1]


def test_what_was_there_before_is_put_back() -> None:
    handler = signal.getsignal(signal.SIGUSR1)
    with Signals({signal.SIGUSR1}):
        assert signal.getsignal(signal.SIGUSR1) != handler
    assert signal.getsignal(signal.SIGUSR1) == handler
    assert signal.set_wakeup_fd(-1) == -1
