"""A forked process is to a script what a fresh one is, and what one worker makes is made once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import script_env
from forked import CAN_FORK, Process
from shared import made_once

SHOW = """
import json, os, signal, sys, threading
streams = [[s.encoding, s.errors, s.line_buffering, s.isatty(), s.seekable()] for s in (sys.stdout, sys.stderr)]
handlers = [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGPIPE)]
files = sorted(os.listdir("/proc/self/fd"))
names = sorted(name for name in dir() if not name.startswith("__"))
print(json.dumps([__name__, sys.argv, sys.path[:2], os.getcwd(), dict(os.environ), streams, handlers, threading.active_count(), files,
                  names, "train" in sys.modules]))
print("to standard error", file=sys.stderr)
sys.exit(3)
"""

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="processes are started here, not forked")


@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
@pytest.mark.parametrize("program", ["-c", "show.py"])
def test_it_sees_what_a_fresh_process_sees(program, piped, tmp_path):
    (tmp_path / "show.py").write_text(SHOW, encoding="utf-8")
    command = [*(["-c", SHOW] if program == "-c" else [str(tmp_path / program)]), "a b", "снег"]
    env, seen = script_env({"PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": ""}), []
    for forked in (True, False):
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as pipe, open(tmp_path / "out.txt", "wb") as file:
            out = pipe if piped else file
            if forked:
                process = Process(command, tmp_path, env, out=out, err=file)
            else:
                process = subprocess.Popen([sys.executable, *command], cwd=tmp_path, env=env, stdout=out, stderr=file)
            assert process.wait(60) == 3
        with os.fdopen(reader, "rb") as pipe:
            seen.append(pipe.read() + (tmp_path / "out.txt").read_bytes())
    assert seen[0] == seen[1] and b"to standard error" in seen[0] and json.dumps("снег").encode() in seen[0]


def test_it_is_heard_signalled_and_killed_when_it_takes_too_long(tmp_path):
    sleeper = "import sys, time; print('up', file=sys.stderr, flush=True); time.sleep(60)"
    process = Process(["-c", sleeper], tmp_path, script_env())
    process.hear("up")
    assert process.poll() is None and Path(f"/proc/{process.pid}").exists()
    process.send_signal(signal.SIGTERM)
    done = process.finish(60)
    assert done.returncode == -signal.SIGTERM and done.stderr == "up\n" and not Path(f"/proc/{process.pid}").exists()
    process = Process(["-c", sleeper], tmp_path, script_env())
    with pytest.raises(subprocess.TimeoutExpired):
        process.finish(0.1)
    assert process.wait(60) == -signal.SIGKILL
    with pytest.raises(AssertionError, match="gone"):
        Process(["-c", "import sys; sys.exit('gone')"], tmp_path, script_env()).hear("up")


def test_what_workers_share_is_made_once(tmp_path):
    name, made = f"{tmp_path.name}_thing", []
    assert made_once(name, lambda path: made.append(path) or path.touch()) == made_once(name, made.append) == made[0]
    assert len(made) == 1
    with pytest.raises(AttributeError):
        made_once(f"{name}_2", lambda path: made.pop().missing)
    with pytest.raises(AssertionError, match="could not be made"):
        made_once(f"{name}_2", made.append)
