"""README stays true: what can be run of it is run, in its order, against a worker of its own."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sdk import node

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PORT, HOOK_PORT = "6066", "8099"
SECONDS = 60
"""How long a step may take, on a machine that does much else."""


def blocks():
    """Return (language, text) of the blocks of the README, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


class Clone:
    """A fresh folder with the example workspace, and what a reader of the README starts in it."""

    def __init__(self, folder):
        self.folder = folder
        self.ports = {PORT: free_port(), HOOK_PORT: free_port()}
        shutil.copytree(ROOT / "config", folder / "config")
        for path in ROOT.glob("*"):
            if path.name == "Makefile" or (path / "__init__.py").exists():
                (folder / path.name).symlink_to(path)
        (folder / "requirements.txt").touch()
        (folder / ".venv").mkdir()
        for path in Path(sys.prefix).iterdir():
            (folder / ".venv" / path.name).symlink_to(path)
        (folder / ".venv/.ready").unlink(missing_ok=True)
        (folder / ".venv/.ready").touch()  # newer than the requirements: it is set up
        webhook = folder / "config/destinations/webhook.yaml"
        webhook.write_text(self.here(webhook.read_text()))
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith("WATERSMEET_")
        } | {
            "WATERSMEET_PORT": self.ports[PORT], "PYTHONUNBUFFERED": "1",
            "WATERSMEET_OUTBOUND_ALLOW": "127.0.0.0/8,::1/128",
        }
        self.env.pop("PYTHONPATH", None)
        self.env["CURL_HOME"] = str(folder)
        (folder / ".curlrc").write_text("fail\n")  # an answer of 400 or more is an error
        self.running = []

    def here(self, text):
        """Return a text of the README with the ports that this test has."""
        for named, port in self.ports.items():
            text = text.replace(f":{named}", f":{port}").replace(f", {named})", f", {port})")
        return text

    def start(self, *command):
        out = (self.folder / f"out-{len(self.running)}").open("w+")
        process = subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=out,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        self.running.append((process, out))
        return process, out

    def worker(self):
        # As `make run` has it: the Makefile's own line, without its setting up.
        line = re.search(r"exec \$\(BIN\)/(faust .* worker)$", (ROOT / "Makefile").read_text(),
                         re.MULTILINE)
        process, out = self.start(*f".venv/bin/{line[1]}".split())
        self.until(lambda: "Read the person" in said(out), lambda: said(out))
        return process, lambda: said(out)

    def stop(self, process):
        """Press Ctrl-C."""
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0

    def run(self, text):
        done = subprocess.run(["bash", "-euc", self.here(text)], cwd=self.folder, env=self.env,
                              capture_output=True, text=True, timeout=SECONDS * 2, check=False)
        return done.returncode, done.stdout, done.stderr

    def until(self, true, what):
        """Return when something is so; fail with ``what()`` when it takes too long."""
        deadline = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < deadline, what()
            assert self.running[-1][0].poll() is None, what()
            time.sleep(0.1)

    def close(self):
        for process, out in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()
            out.close()


def said(out):
    out.flush()
    return Path(out.name).read_text()


def matches(told, wanted):
    """Tell whether an answer is the one that the README shows; "..." there stands for anything."""
    if wanted == "...":
        return True
    if isinstance(told, (int, float)) and told == wanted:
        return True
    if isinstance(wanted, dict) and isinstance(told, dict):
        return told.keys() == wanted.keys() and all(
            matches(told[key], one) for key, one in wanted.items())
    return type(told) is type(wanted) and told == wanted


@pytest.fixture
def clone(tmp_path):
    made = Clone(tmp_path)
    yield made
    made.close()


def test_readme_the_tour_can_be_walked(clone):
    worker, greeting = clone.worker()
    check_greeting(clone, greeting())
    hook = clone.folder / "hook.py"
    hook.write_text(clone.here(next(text for _, text in blocks() if "class Hook" in text)))
    _, heard = clone.start(sys.executable, str(hook))
    last = ""
    walked = 0
    for language, text in blocks():
        if language == "sh" and "rebuild" in text:
            clone.stop(worker)
        if language in WALKS and "class Hook" not in text:
            code, out, err = WALKS[language](clone, text)
            assert code == 0, f"{text}\n{out}\n{err}"
            last = text
            walked += 1
        elif language == "json":
            wanted = json.loads(text)
            if "messageId" in wanted:
                clone.until(lambda wanted=wanted: any(
                    matches(json.loads(line), wanted) for line in said(heard).splitlines()
                    if line.startswith("{")), lambda: said(heard))
            elif wanted != {"success": True}:
                # An event is durable when it is answered, and applied a moment later.
                clone.until(lambda again=last, wanted=wanted: matches(
                    json.loads(clone.run(again)[1]), wanted),
                    lambda again=last: clone.run(again)[1])
            else:
                assert json.loads(out) == wanted
    assert walked >= 9
    worker, greeting = clone.worker()
    check_greeting(clone, greeting())
    send, read = re.findall(r"^  (curl .*)$", greeting(), re.MULTILINE)
    code, out, err = clone.run(send)
    assert (code, json.loads(out)) == (0, {"success": True}), err
    clone.until(lambda: "ann@example.com" in clone.run(read)[1], lambda: clone.run(read)[1])
    clone.stop(worker)


def walk_sh(clone, text):
    return clone.run(text)


def walk_python(clone, text):
    script = clone.folder / "send.py"
    script.write_text(clone.here(text))
    return clone.run(f"{sys.executable} {script}")


def walk_js(clone, text):
    command = node.install()
    modules = clone.folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(node.MODULES)
    script = clone.folder / "send.mjs"
    script.write_text(clone.here(text))
    return clone.run(f"{' '.join(command)} --preserve-symlinks {script}")


WALKS = {"sh": walk_sh, "python": walk_python, "js": walk_js}


def check_greeting(clone, told):
    """It is the one that the README shows, but for the folder; the token itself is not in it."""
    shown = re.search(r"^Watersmeet \d.*?^Read the person:$", README, re.MULTILINE | re.DOTALL)[0]
    for line in clone.here(shown).splitlines():
        if line.startswith(("Watersmeet", "Write key", "Send", "Read")):
            assert line in told.splitlines(), told
    assert f"Access token: {clone.folder / 'data/token'}" in told
    assert (clone.folder / "data/token").read_text().strip() not in told


def test_readme_names_every_variable_that_is_read():
    read = set()
    for folder in ("app", "workspace"):
        for path in (ROOT / folder).rglob("*.py"):
            read |= set(re.findall(r"WATERSMEET_[A-Z_]+", path.read_text()))
    table = README + (ROOT / "docs/configuration.md").read_text()
    assert sorted(name for name in read if name not in table) == []


def test_readme_names_only_targets_that_make_has():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "".join(path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md")))
    assert set(re.findall(r"`make ([a-z]+)", text)) <= targets
