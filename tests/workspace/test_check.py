"""The command `check` (WS-08)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli.check import check

ROOT = Path(__file__).parents[2]
GOOD = "version: 1\nsources:\n  web: {type: website, write_keys: [wk_web_0001]}\n"
HOOK = 'version: 1\ndestinations:\n  h: {type: webhook, settings: {url: "%s"}}\n'


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WATERSMEET_CONFIG", raising=False)
    monkeypatch.delenv("WATERSMEET_OUTBOUND_ALLOW", raising=False)
    (tmp_path / "config").mkdir()

    def run(*args: str, env=None, **texts: str):
        for name, text in texts.items():
            (tmp_path / "config" / f"{name}.yaml").write_text(text)
        return CliRunner().invoke(check, args, env=env or {})

    return run


def test_workspace_WS08_a_sound_folder_passes(run):
    result = run(web=GOOD)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr == "1 file, nothing wrong: 1 source\n"


def test_workspace_WS08_every_problem_is_a_line_and_the_exit_code_is_1(run):
    result = run(web=GOOD.replace("website", "web"), b=GOOD.replace("web:", "Web:"))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        'config/b.yaml:3:3: sources.Web: the key "Web" may have only a-z, 0-9 and _; write "web"',
        'config/web.yaml:3:15: sources.web.type: "web" is not one of: cloud, mobile, server, '
        'website; did you mean "website"?',
    ]
    assert result.stderr == "2 files: 2 errors, 0 warnings\n"


def test_workspace_WS08_warnings_fail_only_when_strict(run):
    warned = HOOK % "http://localhost/"
    assert run(hook=warned).exit_code == 0
    assert run("--strict").exit_code == 1


def test_workspace_WS04_a_missing_variable_fails_unless_no_env(run):
    assert run(hook=HOOK % "${HOOK_URL}").exit_code == 1
    assert run("--no-env").exit_code == 0
    assert run(env={"HOOK_URL": "https://hooks.example.com"}).exit_code == 0


def test_workspace_WS24_a_private_address_fails_unless_it_is_allowed(run):
    result = run(hook=HOOK % "http://10.0.0.1/")
    assert result.exit_code == 1
    assert "the address is private" in result.stdout
    assert run(env={"WATERSMEET_OUTBOUND_ALLOW": "10.0.0.0/8"}).exit_code == 0


def test_workspace_WS24_a_list_of_networks_that_is_wrong_fails(run):
    result = run(web=GOOD, env={"WATERSMEET_OUTBOUND_ALLOW": "10.0.0.0/99"})
    assert result.exit_code == 1
    assert 'WATERSMEET_OUTBOUND_ALLOW: "10.0.0.0/99" is not a network' in result.stdout


def test_workspace_WS08_programs_get_one_JSON_object(run):
    report = json.loads(run("--json", web=GOOD, bad="version: 1\nsorces: {}\n").stdout)
    assert report["files"] == 2
    assert report["errors"] == 1
    assert report["problems"] == [
        {
            "file": "config/bad.yaml", "line": 2, "column": 1, "key": "sorces",
            "what": "unknown key", "mend": 'did you mean "sources"?', "warning": False,
        }
    ]  # fmt: skip


def test_workspace_WS08_the_folder_is_that_of_the_environment_or_of_the_command(run, tmp_path):
    run(web=GOOD)
    other = tmp_path / "other"
    other.mkdir()
    assert "0 files" in run(env={"WATERSMEET_CONFIG": str(other)}).stderr
    assert "0 files" in run("--config", "other").stderr


def test_workspace_WS01_a_folder_that_is_not_there_fails(run):
    result = run("--config", "nowhere")
    assert result.exit_code == 1
    assert result.stdout.startswith("nowhere:1:1: there is no such folder")


def test_workspace_WS01_a_file_that_cannot_be_read_is_named(run, tmp_path):
    (tmp_path / "config" / "gone.yaml").symlink_to(tmp_path / "nothing")
    result = run(web=GOOD)
    assert result.exit_code == 1
    assert "config/gone.yaml:1:1: cannot be read: no such file or directory" in result.stdout


def test_workspace_WS08_the_command_is_one_of_the_applications_and_takes_the_example():
    env = {**os.environ, "WATERSMEET_OUTBOUND_ALLOW": "127.0.0.0/8,::1/128"}
    result = subprocess.run(
        [Path(sys.executable).with_name("faust"), "-A", "app", "check", "--strict"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.stdout == ""
    assert "nothing wrong" in result.stderr
    assert result.returncode == 0


def test_workspace_WS08_help_starts_without_what_is_heavy():
    code = (
        "import sys; sys.argv = ['faust', '-A', 'app', 'check', '--help']\n"
        "from faust.cli.base import cli\n"
        "try:\n    cli()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'networkx', 'numpy', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert "Check the folder of definitions" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"
