"""Signals that wait for a safe moment of a training run."""

import os
import signal
import socket
import threading
import time


class Interrupted(Exception):
    """A signal asked the run to stop; its number is the argument."""


class Signals:
    """Remembers Ctrl-C, SIGTERM and a closed terminal until a safe moment; a second one ends the process at once.

    A context manager: on leaving, the former handlers are back, for a notebook that goes on. What comes within
    `echo` seconds of the first counts as the same one: a scheduler and torchrun both pass a signal on.

    Python runs a handler only between two steps of the main thread, which may wait inside a library for a process
    that never answers. So the handlers do nothing, and a thread of its own reads the number from the wake-up socket.
    """

    def __init__(self, echo=0.0):
        self.echo = echo
        self.number = 0  # of the first signal that came
        self._since = 0.0  # when it came
        self._former = {}  # signal number -> handler before this one

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            heard, self._wake = socket.socketpair()
            self._wake.setblocking(False)
            self._former_wake = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
            for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
                number = getattr(signal, name, None)  # SIGHUP is of Unix, SIGBREAK of Windows
                if number and not (
                    name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN
                ):  # nohup stays in force
                    self._former[number] = signal.signal(number, lambda *_: None)
            self._listener = threading.Thread(target=self._listen, args=(heard,), daemon=True)
            self._listener.start()
        return self

    def __exit__(self, *_):
        if self._former:
            signal.set_wakeup_fd(self._former_wake)
            self._wake.shutdown(socket.SHUT_RDWR)  # ends the thread, even if a forked process holds the socket too
            self._wake.close()
            self._listener.join()
        for number, former in self._former.items():
            signal.signal(number, signal.SIG_DFL if former is None else former)

    def _listen(self, heard):
        with heard:
            while came := heard.recv(1):
                if came[0] in self._former:
                    self._note(came[0])

    def _note(self, number):
        if number == getattr(signal, "SIGBREAK", None):  # what Windows sends where others send SIGINT
            number = signal.SIGINT
        if not self.number:
            self.number, self._since = number, time.monotonic()
        elif time.monotonic() - self._since >= self.echo:
            os._exit(128 + number)

    def check(self):
        """Raise Interrupted if a signal has come."""
        if self.number:
            raise Interrupted(self.number)
