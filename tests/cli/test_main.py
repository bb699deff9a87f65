import json
import subprocess
import sys

import pytest

from kuberml.cli import doctor, main
from kuberml.cli.new import What, template
from kuberml.core.errors import ConfigError, InternalError, MissingExtra, RemoteError, Unreachable
from kuberml.scenario.config import load

COMMANDS = ["demo", "run", "compare", "new", "show", "verify", "find", "backup", "restore", "doctor"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(cli, command):
    status, out, _ = cli(command, "--help")
    assert status == 0
    assert f"kuberml {command}" in out.split("Example", 1)[1]


def test_the_package_runs_as_the_command_does():
    done = subprocess.run([sys.executable, "-m", "kuberml", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("kuberml")


def test_version_and_no_arguments(cli):
    assert cli("--version")[1].startswith("kuberml")
    assert "Learned knowledge, delivered" in cli("--help")[1]


def test_the_command_line_imports_nothing_heavy():
    heavy = "('numpy', 'torch', 'matplotlib', 'cryptography', 'msgspec', 'sklearn', 'zenoh', 'aiohttp')"
    code = f"import sys, kuberml.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("x"), 2),
        (MissingExtra("x", "torch"), 2),
        (RemoteError("x"), 3),
        (Unreachable("x"), 4),
        (InternalError("x"), 70),
    ],
)
def test_exit_status_says_whose_fault_it_is(error, status):
    assert main.exit_status(error) == status


def test_new_scenario_is_one_that_can_be_loaded(cli, tmp_path):
    status, _, err = cli("new", "scenario", "mine")
    assert status == 0
    assert "kuberml run mine.toml" in err
    config = load(tmp_path / "mine.toml")
    assert (config.name, sorted(config.paradigms)) == ("mine", ["fedavg", "kuber-statistics", "local"])
    status, _, err = cli("new", "scenario", "mine.toml")
    assert status == 2
    assert "--force" in err
    assert cli("new", "scenario", "mine.toml", "--force")[0] == 0


def test_new_learner_is_a_model(cli, tmp_path):
    torch = pytest.importorskip("torch")
    assert cli("new", "learner", "my_net.py")[0] == 0
    names = {}
    exec(compile((tmp_path / "my_net.py").read_text(), "my_net.py", "exec"), names)
    net = names["MyNet"]((8, 8, 1), 10)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_new_paradigm_is_python(cli, tmp_path):
    assert cli("new", "paradigm", "my-gossip.py")[0] == 2  # a module's name has no dash
    assert "'random' is also a library's name" in cli("new", "paradigm", "random.py")[2]
    assert cli("new", "paradigm", "my_gossip.py")[0] == 0
    text = (tmp_path / "my_gossip.py").read_text()
    compile(text, "my_gossip.py", "exec")
    assert 'use = "my_gossip.py"' in text


@pytest.mark.parametrize("name", ["mine.txt", "3mine.toml", "a b.toml"])
def test_new_refuses_odd_names(cli, name):
    assert cli("new", "scenario", name)[0] == 2


@pytest.mark.parametrize("what", list(What))
def test_templates_have_no_holes(what):
    assert "$" not in template(what, "mine")


def test_doctor(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBERML_DATA", str(tmp_path))
    status, out, _ = cli("doctor")
    assert status == 0
    assert "extra torch" in out
    facts = json.loads(cli("doctor", "--json")[1])
    assert facts["data folder"] == f"{tmp_path}: empty"
    monkeypatch.setenv("KUBERML_DATA", str(tmp_path / "none"))
    assert doctor.storage()["data folder"].endswith("is not a folder")
    monkeypatch.delenv("KUBERML_DATA")
    assert doctor.storage()["data folder"].startswith("not set")


def test_doctor_says_how_energy_is_known(cli, tmp_path):
    assert doctor.energy(tmp_path)["energy"].startswith("modelled: 10 W per busy core (no RAPL")
    zone = tmp_path / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0")
    (zone / "energy_uj").write_text("1")
    assert doctor.energy(tmp_path)["energy"].split("; ")[0] == "measured: rapl"
    assert json.loads(cli("doctor", "--json")[1])["energy"].startswith(("measured: ", "modelled: "))


def test_doctor_reads_vector_instructions(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 avx512_vnni amx_tile\n")
    assert doctor.machine(cpuinfo)["vector instructions"] == "AVX2, VNNI (int8 dot products), AMX"
    assert doctor.machine(tmp_path / "none")["vector instructions"] == "cannot be read here"


def test_doctor_says_which_engines_are_tried_and_why_the_others_are_not(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : avx2\n")
    facts = doctor.engines(cpuinfo)
    assert facts["engines"].startswith("eager fp32, torch fp32")
    assert "emulated" in facts["not torch bf16"]
    assert "AMX" not in facts
    cpuinfo.write_text("flags : avx2 avx512f avx512_vnni avx512_bf16 amx_tile amx_bf16 amx_int8\n")
    facts = doctor.engines(cpuinfo)
    assert "torch bf16" in facts["engines"]
    assert "untested" in facts["AMX"]


def test_doctor_names_the_line_that_installs_what_is_missing(monkeypatch):
    monkeypatch.setattr(doctor, "EXTRAS", {"torch": ("no-such-distribution",)})
    assert doctor.extras() == {"extra torch": "missing: pip install 'kuberml[torch]'"}
