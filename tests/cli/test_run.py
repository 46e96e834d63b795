"""``litefs run`` as a process, against a stand-in for the node's API."""

import json
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from litefs.sqlite.locks import try_lock

RUN = [sys.executable, "-c", "import sys; from litefs.cli import main; sys.exit(main())", "run"]


def run(*args, **kw):
    return subprocess.run([*RUN, *args], capture_output=True, text=True, timeout=30, **kw)


@pytest.fixture
def node():
    """A node that says what `info` holds, agrees to promotions unless `refusal`, and takes two polls to be primary."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.seen.append("info")
            self.reply(200, json.dumps(self.server.info))
            if self.server.seen.count("info") > 2:
                self.server.info["isPrimary"] = True

        def do_POST(self):
            self.server.seen.append("promote")
            self.reply(500, self.server.refusal) if self.server.refusal else self.reply(200, "")

        def reply(self, code, text):
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.info, server.seen, server.refusal = {"candidate": True, "isPrimary": False}, [], None
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["true"], 0, ""),
        (["sh", "-c", "exit 3"], 3, "ERROR: exit status 3\n"),
        (["sh", "-c", "kill -9 $$"], 137, "ERROR: signal: SIGKILL\n"),
        (["/no/such/program"], 1, "ERROR: cannot execute /no/such/program: No such file or directory"),
    ],
)
def test_the_code_of_the_command_is_passed_on(command, code, said):
    done = run("--", *command)
    assert done.returncode == code
    assert done.stderr.startswith(said) if said else not done.stderr


def test_stdin_and_arguments_are_the_commands():
    done = run("--", "sh", "-c", 'cat; echo "$1"', "sh", "two  words", input="hello\n")
    assert done.stdout == "hello\ntwo  words\n"


def test_usage():
    done = run("-if-candidate")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no command" in done.stderr
    assert "cannot specify both" in run("-promote", "-with-halt-lock-on", "/x", "--", "true").stderr


def test_if_candidate(node):
    done = run("-if-candidate", "-url", node.url, "--", "echo", "here")
    assert (done.returncode, done.stdout) == (0, "here\n")
    node.info["candidate"] = False
    done = run("-if-candidate", "-promote", "-url", node.url, "--", "echo", "here")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "node is not a candidate, skipping execution\n"
    assert "promote" not in node.seen


def test_promote_waits_until_the_node_is_primary(node):
    done = run("-promote", "-url", node.url, "--", "echo", "here")
    assert (done.returncode, done.stdout) == (0, "here\n")
    assert node.seen[:2] == ["info", "promote"]
    assert node.info["isPrimary"]


def test_a_refused_promotion(node):
    node.refusal = "handoff failed: no"
    done = run("-promote", "-url", node.url, "--", "echo", "here")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ERROR: invalid response: code=500: handoff failed: no\n"


def test_nobody_there():
    done = run("-promote", "-url", "http://127.0.0.1:9", "--", "true")
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert run("-promote", "-url", "ftp://x", "--", "true").returncode == 2


def test_a_signal_reaches_the_command():
    process = subprocess.Popen(
        [*RUN, "--", "sh", "-c", "trap 'echo got; exit 0' TERM; echo up; while :; do sleep 0.05; done"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == "got\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_a_halt_lock_that_cannot_be_had(tmp_path):
    done = run("-with-halt-lock-on", str(tmp_path / "none"), "--", "true")
    assert (done.returncode, done.stderr) == (1, f"ERROR: database does not exist: {tmp_path}/none\n")
    (tmp_path / "plain").touch()  # not in a mount
    done = run("-with-halt-lock-on", str(tmp_path / "plain"), "--", "echo", "here")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is the path that of a database in a litefs mount?" in done.stderr


def test_the_halt_lock_lasts_as_long_as_the_command(tmp_path):
    (tmp_path / "db").touch()
    lock = tmp_path / "db-lock"
    lock.touch()
    with open(lock, "r+b") as file:
        started = subprocess.Popen(
            [*RUN, "-with-halt-lock-on", str(tmp_path / "db"), "--", "sh", "-c", "echo up; read line; exit 3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert started.stdout.readline() == "up\n"
        assert not try_lock(file.fileno(), 72, exclusive=True)
        _, said = started.communicate("go on\n", timeout=20)
        assert try_lock(file.fileno(), 72, exclusive=True)
    assert (started.returncode, said) == (1, "ERROR: exit status 3\n")
