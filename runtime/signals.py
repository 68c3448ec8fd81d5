"""Ctrl-C and SIGTERM: `stop_at_once` for scripts that finish soon, `StopWhenSafe` for those that have work to save."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to stop. The argument is its number; the exit code is 128 more."""


@contextlib.contextmanager
def stop_at_once() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Interrupted wherever the main thread is, so that half-written files are removed."""

    def stop(number: int, _frame: object) -> None:
        raise Interrupted(number)

    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    with _handlers(numbers, stop):
        yield


class StopWhenSafe:
    """Records Ctrl-C, SIGTERM and a closed terminal until `check` is called; a second signal ends the process at once.

    A context manager: on leaving, the former handlers are back, for a notebook that goes on. A signal within
    `echo` seconds of the first counts as the same one: a scheduler and torchrun both pass a signal on.

    Python runs a handler only between two steps of the main thread, which may wait inside a library for a process
    that never answers. So the handlers do nothing, and a thread reads the number from the wake-up socket.
    """

    def __init__(self, echo: float = 0.0) -> None:
        self.echo = echo
        self.number = 0  # of the first signal
        self._since = 0.0  # when the first signal came
        self._exits = False  # whether the first signal ends the process, too
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "StopWhenSafe":
        if threading.current_thread() is not threading.main_thread():
            return self
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        listener = threading.Thread(target=self._listen, args=(reader,), daemon=True)
        listener.start()
        self._stack.callback(listener.join)
        self._stack.callback(writer.close)
        self._stack.callback(writer.shutdown, socket.SHUT_RDWR)  # ends the thread, even if a fork holds the socket too
        former = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        numbers = [getattr(signal, name, 0) for name in ("SIGINT", "SIGTERM", "SIGBREAK")]  # SIGBREAK is of Windows
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup stays in force
            numbers.append(signal.SIGHUP)
        self._numbers = [n for n in numbers if n]
        self._stack.enter_context(_handlers(self._numbers, lambda *_: None))
        self._stack.callback(signal.set_wakeup_fd, former)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.number:
            raise Interrupted(self.number)

    def take(self) -> int:
        """The number of the first signal since the last call, or 0. The next signal counts as the first again."""
        number = self.number
        self.number = 0
        return number

    @contextlib.contextmanager
    def nothing_to_save(self) -> Iterator[None]:
        """In this block the first signal ends the process at once, even while it waits inside a library."""
        self._exits = True
        try:
            yield
        finally:
            self._exits = False

    def _listen(self, reader: socket.socket) -> None:
        with reader:
            while received := reader.recv(1):
                if received[0] in self._numbers:
                    self._record(received[0])

    def _record(self, number: int) -> None:
        if number == getattr(signal, "SIGBREAK", None):  # what Windows sends where others send SIGINT
            number = signal.SIGINT
        is_second = self.number and time.monotonic() - self._since >= self.echo
        if self._exits or is_second:
            os._exit(128 + number)
        if not self.number:
            self._since = time.monotonic()
            self.number = number


@contextlib.contextmanager
def _handlers(numbers: list[int], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handle these signals by `handler` in this block. Only the main thread may set handlers; others change nothing."""
    former = {}
    if threading.current_thread() is threading.main_thread():
        former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
