"""Kill one in the middle of a transfer, with SIGKILL, and watch it resume: the one who fetches, and the one who gives."""

import json
import os
import signal
import time
from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit

import pytest

from kuberml.core.rng import rng
from kuberml.knowledge.card import encode_card
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make
from kuberml.vault.folder import FolderStore
from kuberml.worlds.member.keyfile import keys_in
from tests.cli.live import hub, kuberml, start

SIZE_BYTES = 48_000_000
PATIENCE_S = 60


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder with me.key and mine/, a vault with one package of SIZE_BYTES that no coder makes smaller; and its card."""
    folder = tmp_path_factory.mktemp("package")
    content = Weights({"w": rng(1, "resume").standard_normal(SIZE_BYTES // 4).astype("float32")}, {"3": 5})
    found = make("weights", content, keys=keys_in(folder / "me.key"), task="big", slot="big", version=0, learned_at_ms=1)
    with FolderStore(folder / "mine") as store:
        for blob in found.blobs:
            store.put(blob)
        store.put_card(found.signed.digest, encode_card(found.signed))
    return folder, found.signed.digest, found.card.size_bytes


def on_disk(vault):
    """Bytes of blobs under way in a vault that have been written: what is not written yet is a hole in the file."""
    parts = vault / "parts"
    return sum(path.stat().st_blocks * 512 for path in parts.iterdir()) if parts.is_dir() else 0


def until(process, vault, share, total):
    """Wait until so much of a package is written; what is written then."""
    ends_s = time.monotonic() + PATIENCE_S
    while (written := on_disk(vault)) < share * total:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends_s, written
        time.sleep(0.002)
    return written


def came(out):
    """(bytes that were here, bytes that came over the network) as `kuberml fetch --json` says."""
    (row,) = json.loads(out)
    return row["local_bytes"], sum(row["by_source"].values())


def check_whole(folder):
    status, out, err = kuberml(folder, "verify", "got", "--json")
    assert (status, len(json.loads(out))) == (0, 1), err
    assert not list((folder / "got" / "parts").iterdir())


@pytest.mark.parametrize("share", [0.3, 0.97])
def test_a_fetch_that_is_killed_goes_on_where_it_was(tmp_path, package, share):
    folder, card, total = package
    with hub(tmp_path / "place") as running:
        at = ("--hub", running["address"])
        assert kuberml(folder, "publish", "mine", card[:8], *at)[0] == 0
        killed = start(tmp_path, "fetch", card[:8], *at, "--out", "got", "--limit", "12 MB")
        written = until(killed, tmp_path / "got", share, total)
        killed.kill()
        killed.communicate()
        status, out, err = kuberml(tmp_path, "fetch", card[:8], *at, "--out", "got", "--json")
        assert status == 0, err
    local, fetched = came(out)
    assert local + fetched == total
    assert fetched <= total - written + 0.01 * total  # of what was here, at most 1 % again
    check_whole(tmp_path)


def test_the_only_holder_is_killed_and_comes_back(tmp_path, package):
    """The hub keeps no copy here, so nobody else can help; the same fetch goes on, without a hand."""
    folder, card, total = package
    with hub(tmp_path / "place", "--keep-bytes", "1 MB") as running:
        at = ("--hub", running["address"])
        serve = ("publish", "mine", card[:8], *at, "--stay", "--limit", "12 MB")
        holder = start(folder, *serve)
        assert "the hub keeps no copy" in holder.stderr.readline()
        fetching = start(tmp_path, "fetch", card[:8], *at, "--out", "got", "--json")
        written = until(fetching, tmp_path / "got", 0.4, total)
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
        again = start(folder, *serve[:-2])
        out, err = fetching.communicate(timeout=PATIENCE_S)
        if fetching.returncode != 0:  # it may have lost patience: the same command goes on
            assert fetching.returncode == 4, err
            status, out, err = kuberml(tmp_path, "fetch", card[:8], *at, "--out", "got", "--json")
            assert status == 0, err
            assert came(out)[1] <= total - written + 0.01 * total
        again.send_signal(signal.SIGINT)
        again.communicate(timeout=20)
    assert sum(came(out)) == total
    check_whole(tmp_path)


def test_a_full_disk_is_said_in_one_line_and_the_same_command_goes_on(tmp_path, package):
    folder, card, total = package
    with hub(tmp_path / "place") as running:
        at = ("--hub", running["address"])
        assert kuberml(folder, "publish", "mine", card[:8], *at)[0] == 0
        fetch = ("fetch", card[:8], *at, "--out", "got", "--json")
        full = start(tmp_path, *fetch, preexec_fn=lambda: setrlimit(RLIMIT_FSIZE, (total // 2, RLIM_INFINITY)))
        _, err = full.communicate(timeout=PATIENCE_S)
        assert (full.returncode, err.count("\n")) == (2, 1), err
        assert "the disk takes no more" in err
        status, _, err = kuberml(tmp_path, *fetch)
        assert status == 0, err
    check_whole(tmp_path)


def test_a_fetch_that_is_stopped_says_how_it_goes_on(tmp_path, package):
    folder, card, total = package
    with hub(tmp_path / "place") as running:
        at = ("--hub", running["address"])
        assert kuberml(folder, "publish", "mine", card[:8], *at)[0] == 0
        stopped = start(tmp_path, "fetch", card[:8], *at, "--out", "got", "--limit", "12 MB")
        until(stopped, tmp_path / "got", 0.2, total)
        stopped.send_signal(signal.SIGINT)
        _, err = stopped.communicate(timeout=20)
        assert stopped.returncode == 130
        assert err.endswith("what came so far stays; the same command goes on from there\n")
        assert "Traceback" not in err
        assert on_disk(tmp_path / "got") >= 0.2 * total


def test_a_fetch_says_that_the_hub_is_away_and_that_it_is_back(tmp_path, package):
    """The only holder besides the hub is gone, so everything waits for the hub; then the same fetch ends well."""
    folder, card, total = package
    with hub(tmp_path / "place") as running:
        address = running["address"]
        assert kuberml(folder, "publish", "mine", card[:8], "--hub", address)[0] == 0
        fetching = start(tmp_path, "fetch", card[:8], "--hub", address, "--out", "got", "--limit", "12 MB")
        until(fetching, tmp_path / "got", 0.1, total)
        os.kill(running["pid"], signal.SIGKILL)
        line = next(line for line in fetching.stderr if "is away" in line)
        assert line.startswith(f"the hub at {address} is away: waiting for it")
        with hub(tmp_path / "place", listen=address):
            _, err = fetching.communicate(timeout=PATIENCE_S)
    assert fetching.returncode == 0, err
    assert f"the hub at {address} is back" in err
    check_whole(tmp_path)
