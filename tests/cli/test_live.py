"""The commands against a real hub, as separate processes: what a stranger types, and what may go wrong."""

import json
import os
import re
import signal
import time

import pytest

from kuberml.vault.folder import FolderStore
from tests.cli.live import ROOT, hub, kuberml, start

LEARNER = ROOT / "examples" / "learner.py"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with hub(tmp_path_factory.mktemp("hub")) as running:
        yield running["address"]


def cards(folder):
    with FolderStore(folder) as store:
        return list(store.cards())


def test_two_learners_teach_each_other_all_ten_digits(tmp_path, address):
    first = start(tmp_path, "join", "--hub", address, LEARNER, "6", "7", "8", "9")
    second = start(tmp_path, "join", "--hub", address, LEARNER, *"012345")
    said = [process.communicate(timeout=60) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], said
    right = [int(re.findall(r"(\d+)% right on digits that I have never seen", out)[0]) for out, _ in said]
    assert right[0] >= 90
    assert right[1] >= 85
    assert "published statistics of 6, 7, 8, 9" in said[0][1]
    assert "credit, other holders or the public probe confirm 6, 7, 8, 9" in said[1][1]
    again = kuberml(tmp_path, "join", "--hub", address, LEARNER, "6", "7", "8", "9")  # the same member: nothing is new
    assert again[0] == 0, again
    assert "published statistics" not in again[2]
    assert "tried" not in again[2]


def test_nobody_answers_is_said_with_what_to_do(tmp_path):
    status, _, err = kuberml(tmp_path, "find", "digits", "--hub", "127.0.0.1:9")
    assert status == 4
    assert "127.0.0.1:9" in err
    assert "`kuberml hub` starts one; one with --tls answers at tls/HOST:PORT only" in err
    assert "Traceback" not in err
    status, _, err = kuberml(tmp_path, "find", "digits", "--hub", "tls/127.0.0.1:9")
    assert (status, "lets in who has a certificate: --tls FOLDER" in err) == (4, True), err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("join", "none.py"), "there is no program none.py"),
        (("hub", "--keep-bytes", "much"), "not a size"),
        (("hub", "--listen", "udp/127.0.0.1:1"), "is not a hub's address"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, arguments, says):
    status, _, err = kuberml(tmp_path, *arguments)
    assert status == 2
    assert says in err


def test_another_realm_is_named_where_there_is_a_hub(tmp_path, address):
    status, _, err = kuberml(tmp_path, "find", "digits", "--hub", address, "--realm", "ward")
    assert (status, "not known in realm 'ward' (see --realm)" in err) == (4, True), err


@pytest.mark.parametrize("command", [("find", "digits"), ("fetch", "3f9c"), ("join", LEARNER)])
def test_an_address_without_a_port_is_named_at_once(tmp_path, command):
    status, _, err = kuberml(tmp_path, command[0], "--hub", "hub.example", *command[1:])
    says = "'hub.example' names no port: hub.example:7447, where a hub listens on its usual one"
    assert (status, err) == (2, f"kuberml: {says}\n")
    assert not (tmp_path / "hub.example").exists()  # a program would have taken it for a shared folder


def test_two_hubs_on_one_port_are_refused_in_words(tmp_path, address):
    status, _, err = kuberml(tmp_path, "hub", "--listen", address, "--http", "127.0.0.1:0")
    assert status in (2, 4)
    assert "Traceback" not in err
    assert address.rpartition(":")[2] in err


def test_one_folder_is_one_hub_and_one_vault_one_member(tmp_path):
    waits = tmp_path / "waits.py"
    waits.write_text("import kuberml\nwith kuberml.join(task='t', labels=['a']):\n    print('in', flush=True)\n    input()\n")
    with hub(tmp_path / "place") as running:
        second = kuberml(tmp_path / "place", "hub", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
        assert (second[0], "a hub runs in this folder already" in second[2]) == (2, True), second
        first = start(tmp_path, "join", "--hub", running["address"], waits, stdin=-1)
        assert first.stdout.readline() == "in\n"
        status, _, err = kuberml(tmp_path, "join", "--hub", running["address"], waits)
        assert (status, "is running already; give this one another name" in err) == (2, True), err
        other = start(tmp_path, "join", "--hub", running["address"], "--name", "other", waits, stdin=-1)
        assert other.stdout.readline() == "in\n"
        for process in (first, other):
            process.communicate("\n", timeout=20)
            assert process.returncode == 0


def test_what_a_program_raises_is_shown_as_python_shows_it_and_settings_in_one_line(tmp_path, address):
    program = tmp_path / "program.py"
    program.write_text("import sys\nprint(sys.argv[1:], __name__)\nraise SystemExit(7)\n")
    assert kuberml(tmp_path, "join", "--hub", address, program, "--labels", "3", "-q")[:2] == (
        7,
        "['--labels', '3', '-q'] __main__\n",
    )
    program.write_text("1 / 0\n")
    status, _, err = kuberml(tmp_path, "join", "--hub", address, program)
    assert (status, "ZeroDivisionError" in err) == (1, True)
    program.write_text("import kuberml\nkuberml.join(task='t', labels=[])\n")
    status, _, err = kuberml(tmp_path, "join", "--hub", address, "-q", program)
    assert (status, err) == (2, "kuberml: labels = []: give the names of the classes, each once\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_program_that_is_stopped_leaves_in_order(tmp_path, address, number, status):
    program = tmp_path / "program.py"
    program.write_text(
        "import kuberml, time\n"
        f"with kuberml.join(task='t', labels=['a'], name='waits-{status}'):\n"
        "    print('in', flush=True)\n"
        "    time.sleep(60)\n"
    )
    running = start(tmp_path, "join", "--hub", address, program)
    assert running.stdout.readline() == "in\n"
    running.send_signal(number)
    _, err = running.communicate(timeout=20)
    assert running.returncode == status
    assert "Traceback" not in err
    with FolderStore(tmp_path / f"waits-{status}.vault") as store:
        assert store.sweep() == 0


def test_a_name_that_is_somebody_elses_is_refused_at_once(tmp_path, address):
    program = tmp_path / "program.py"
    program.write_text("import kuberml\nwith kuberml.join(task='t', labels=['a'], name='taken'):\n    print('in')\n")
    assert kuberml(tmp_path, "join", "--hub", address, "-q", program) == (0, "in\n", "")
    (tmp_path / "taken.key").unlink()
    began_s = time.monotonic()
    status, _, err = kuberml(tmp_path, "join", "--hub", address, "-q", program)
    assert status == 3
    assert "belongs to another key" in err
    assert time.monotonic() - began_s < 10


def test_what_is_here_goes_on_without_the_hub(tmp_path):
    """A member that starts while its hub is away knows what it knew, predicts the same, and can forget."""
    program = tmp_path / "program.py"
    program.write_text(
        "import kuberml, sys\n"
        "import numpy as np\n"
        "from kuberml.learning.datasets import DATASETS\n"
        "digits = DATASETS.get('digits')\n"
        "public, part, test = (digits.split(split) for split in ('public', 'train', 'test'))\n"
        "def of(those): return part.x_N[np.isin(part.y_N, those)], part.y_N[np.isin(part.y_N, those)]\n"
        "def join(name, those):\n"
        "    return kuberml.join(task='digits', name=name, labels=digits.labels, data=of(those))\n"
        "if sys.argv[1] == 'with':\n"
        "    kuberml.agree(task='digits', labels=digits.labels, x=public.x_N, y=public.y_N, levels=16)\n"
        "    with join('teacher', [6, 7, 8, 9]) as teacher:\n"
        "        teacher.publish(teacher.statistics())\n"
        "with join('ward', [0, 1, 2, 3, 4, 5]) as me:\n"
        "    for offer in me.want('8'):\n"
        "        me.absorb(trial := me.try_out(offer))\n"
        "        print('tried')\n"
        "    print(sorted(me.known()), [tensor.shape for tensor in me.lesson()])\n"
        "    print(np.round(me.predict(test.x_N[:9]), 4).tolist())\n"
        "    print(me.statistics().labels)\n"
    )
    with hub(tmp_path / "place") as running:
        status, first, err = kuberml(tmp_path, "join", "--hub", running["address"], program, "with")
        assert status == 0, err
    status, second, err = kuberml(tmp_path, "join", "--hub", running["address"], program, "without")
    assert status == 0, err
    assert f"the hub at {running['address']} is away; what is here goes on without it" in err
    assert first.startswith("tried\n['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']")
    assert second == first.removeprefix("tried\n")


def test_a_member_that_is_killed_again_and_again_publishes_nothing_twice(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import kuberml\n"
        "import numpy as np\n"
        "from kuberml.knowledge.kinds.weights import Weights\n"
        "with kuberml.join(task='t', labels=['a'], name='stubborn') as me:\n"
        "    for k in range(6):\n"
        "        me.publish(Weights({'w': np.full(300_000, k, np.float32)}, {'a': 5}), slot=f's{k}')\n"
        "        print(k, flush=True)\n"
    )
    with hub(tmp_path / "place") as running:
        for wait_s in (0.02, 0.1, 0.05, 0.0):  # after the first word of each life
            member = start(tmp_path, "join", "--hub", running["address"], program)
            assert member.stdout.readline() == "0\n"
            time.sleep(wait_s)
            member.kill()
            member.communicate()
        status, out, err = kuberml(tmp_path, "join", "--hub", running["address"], program)
        assert (status, out.split()) == (0, list("012345")), err
        found = json.loads(kuberml(tmp_path, "find", "t", "--hub", running["address"], "--json")[1])
    assert sorted((row["slot"], row["version"]) for row in found) == [(f"s{k}", 0) for k in range(6)]
    assert len(cards(tmp_path / "place" / "kuberml-hub")) == 6
    assert len(cards(tmp_path / "stubborn.vault")) == 6


def test_a_member_goes_on_while_its_hub_restarts(tmp_path):
    """It is told nothing and needs no hand: what it publishes meanwhile is there afterwards, once."""
    program = tmp_path / "program.py"
    program.write_text(
        "import kuberml, sys\n"
        "import numpy as np\n"
        "from kuberml.knowledge.kinds.weights import Weights\n"
        "with kuberml.join(task='t', labels=['a'], name='steady') as me:\n"
        "    for k in range(3):\n"
        "        me.publish(Weights({'w': np.full(3, k, np.float32)}, {'a': 5}), slot=f's{k}')\n"
        "        print(k, flush=True)\n"
        "        sys.stdin.readline()\n"
    )
    with hub(tmp_path / "place") as running:
        address = running["address"]
        member = start(tmp_path, "join", "--hub", address, program, stdin=-1)
        assert member.stdout.readline() == "0\n"
        os.kill(running["pid"], signal.SIGKILL)
    member.stdin.write("\n")
    member.stdin.flush()
    time.sleep(0.5)
    with hub(tmp_path / "place", listen=address):
        assert member.stdout.readline() == "1\n"
        member.stdin.write("\n")
        member.stdin.flush()
        assert member.stdout.readline() == "2\n"
        member.stdin.write("\n")
        _, err = member.communicate(timeout=20)
        assert member.returncode == 0, err
    assert len(cards(tmp_path / "place" / "kuberml-hub")) == 3
