"""Processes of the scripts that start in milliseconds: each is forked from one that has the libraries loaded and never computes.

Python spends two to four seconds of CPU on loading libraries before a script does anything. A forked process has a memory, folder,
environment, output, signals and exit code of its own, and runs its script from the first line. What it does not repeat is the start
of Python and of the libraries: tests of that (locales, packages that are missing, variables that are read once) use `run_script`.

Started as a script, this file is the process that forks. It is started when it is first needed.
"""

import functools
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shared import FOLDER

CAN_FORK = sys.platform == "linux"  # macOS has fork, too, but libraries that do not survive it
LIBRARIES = "torch torch._dynamo matplotlib.figure matplotlib.backends.backend_agg PIL.Image tokenizers safetensors.torch tqdm".split()
# As it was before any test changed it, but for what is read once, when Python and torch start
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}


# ---------------------------------------------------------------------------------------------
# In the tests
# ---------------------------------------------------------------------------------------------


class Forked:
    """A forked process: what the tests need of subprocess.Popen.

    command: `[script, *arguments]` or `["-c", program, *arguments]`. out, err: files for what it writes.
    """

    def __init__(self, command, cwd, env, out, err):
        self._status, status = os.pipe()
        request = json.dumps({"command": command, "cwd": str(cwd), "env": env})
        socket.send_fds(_server(), [request.encode()], [out.fileno(), err.fileno(), status])
        os.close(status)
        self.returncode, self.pid = None, self._told()

    def _told(self):
        number = os.read(self._status, 8)
        assert number, "the process that forks has ended"
        return int.from_bytes(number, "little", signed=True)

    def wait(self, timeout=None):
        """Its exit code, negative for the signal that ended it. Raises TimeoutExpired after so many seconds."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            self.returncode = self._told()
            os.close(self._status)
        return self.returncode

    def poll(self):
        """Its exit code, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)


class Process:
    """A script on its way, forked where the system can and started as by a shell elsewhere.

    command, out, err: as of `Forked`; without them it writes to files of its own, which can be read at any time.
    """

    def __init__(self, command, cwd, env, out=None, err=None):
        self.command = [*map(str, command)]
        self._files = [tempfile.NamedTemporaryFile(dir=FOLDER, delete=False) for _ in range(2)]
        out, err = out or self._files[0], err or self._files[1]
        if CAN_FORK:
            self._child = Forked(self.command, cwd, env, out, err)
        else:
            self._child = subprocess.Popen([sys.executable, *self.command], cwd=cwd, env=env, stdout=out, stderr=err)
        for file in self._files:
            file.close()
        self.pid, self.poll, self.wait = self._child.pid, self._child.poll, self._child.wait
        self.send_signal = self._child.send_signal

    def kill(self):
        self.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    @property
    def stdout(self):
        return Path(self._files[0].name).read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self):
        return Path(self._files[1].name).read_text(encoding="utf-8", errors="replace")

    def hear(self, words):
        """Wait until a whole line of its standard error has these words. Raises AssertionError if it ends without one."""
        ended = False
        while not any(words in line and line.endswith("\n") for line in self.stderr.splitlines(keepends=True)):
            assert not ended, self.stderr
            ended = self.poll() is not None  # what it wrote last is read once more
            time.sleep(0.002)

    def finish(self, timeout=600):
        """Wait for its end -> a CompletedProcess, with text. It is killed when it takes longer."""
        try:
            code = self.wait(timeout)
        finally:
            self.kill()
        return subprocess.CompletedProcess(self.command, code, self.stdout, self.stderr)


@functools.cache
def _server():
    """A connection to the process that forks. All workers of a test run share it, and it ends with the last of them."""
    name = str(FOLDER)
    connection, process = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), None
    while connection.connect_ex(f"\0{name}"):  # the zero: a name that goes with its process, not a file
        process = process or subprocess.Popen([sys.executable, __file__, name], env=ENVIRONMENT)
        assert not process.poll(), "the process that forks could not start"
        time.sleep(0.05)
    return connection


# ---------------------------------------------------------------------------------------------
# In the process that forks
# ---------------------------------------------------------------------------------------------


def serve(listener):
    """Fork a process for each request that a worker sends. Returns only in such a process, with its command."""
    workers, running = 0, {}  # connections; descriptor of a process -> its id, and where its exit code is told
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    workers += 1
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                elif key.fd in running:
                    pid, status = running.pop(key.fd)
                    _tell(status, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    os.close(status)
                else:
                    request, descriptors, *_ = socket.recv_fds(key.fileobj, 1 << 20, 3)
                    if not request:  # a worker has ended
                        workers -= 1
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                        if not workers:
                            sys.exit()
                        continue
                    pid = os.fork()
                    if not pid:
                        for other in list(selector.get_map().values()):
                            other.fileobj.close() if other.fd not in running else os.close(other.fd)
                        for _, status in running.values():
                            os.close(status)
                        return _become(json.loads(request), *descriptors)
                    out, err, status = descriptors
                    os.close(out)
                    os.close(err)
                    _tell(status, pid)
                    process = os.pidfd_open(pid)
                    running[process] = pid, status
                    selector.register(process, selectors.EVENT_READ)


def _tell(status, number):
    os.write(status, number.to_bytes(8, "little", signed=True))


def _become(request, out, err, status):
    """Make this process one that a shell could have started -> its command."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    for descriptor in (out, err, status):
        os.close(descriptor)
    for number, name, buffering in ((1, "stdout", -1), (2, "stderr", 1)):  # a stream is made for a file, or for a pipe
        old = getattr(sys, name)
        new = open(number, "w", buffering, encoding=old.encoding, errors=old.errors, closefd=False)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a session under nohup hands its children an ignored one
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    return request["command"]


def run(command):
    """What `python` does with a command."""
    program = command[1] if command[0] == "-c" else None
    folder = os.path.dirname(command[0])
    sys.path[0:1] = [folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = command[1:] if program else command
    if program:
        sys.argv[0] = "-c"
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(command[0], run_name="__main__")


def main(name):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which this process ends with
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        try:
            listener.bind(f"\0{name}")
        except OSError:  # another worker was sooner
            return
        for library in LIBRARIES:
            importlib.import_module(library)
        gc.freeze()  # their memory stays shared: no forked process looks it through
        listener.listen()
        command = serve(listener)
    run(command)


if __name__ == "__main__":
    main(sys.argv[1])
