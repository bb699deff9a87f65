"""What an author takes back while the service cannot hear it leaves the model when the hub is there again."""

from __future__ import annotations

import time
from pathlib import Path

from kuberml import agree
from kuberml.worlds.member.keyfile import keys_in
from tests.cli.live import hub, kuberml
from tests.serving.test_live import DIGITS, Process, of, right, serve, teach

PUBLIC = DIGITS.split("public")


def labels(cloud: Process) -> str:
    return "".join(cloud.get("/v1/models")[1]["serving"]["labels"])


def test_a_withdrawal_that_was_missed_is_heard_when_the_hub_is_back(tmp_path: Path) -> None:
    with hub(tmp_path / "place") as place:
        address = place["address"]
        agree(
            address,
            task="digits",
            labels=DIGITS.labels,
            x=PUBLIC.x_N,
            y=PUBLIC.y_N,
            levels=16,
            key=tmp_path / "commons.key",
            vault=tmp_path / "commons",
        )
        teach(address, tmp_path, "first", "01234")
        teach(address, tmp_path, "second", "56789")
        with serve(tmp_path / "cloud", address) as cloud:
            cloud.until("9")
            cloud.until("0")
            (taught,) = cloud.get("/v1/origin?label=9")[1]["taught"]
            cloud.stop()
        status, _, err = kuberml(tmp_path, "forget", taught["card"][:12], "--hub", address, "--key", tmp_path / "second.key")
        assert status == 0, err
    with serve(tmp_path / "cloud", address) as cloud:  # the hub is away
        cloud.until("9")
        with hub(tmp_path / "place", listen=address):
            end_s = time.monotonic() + 30
            while labels(cloud) != "01234":
                assert time.monotonic() < end_s, labels(cloud)
                time.sleep(0.05)
            status, answer = cloud.predict(of("01234")[0])
            assert status == 200
            assert right(answer, of("01234")[1]) >= 0.85
            told = [one["author"] for label in "01234" for one in cloud.get(f"/v1/origin?label={label}")[1]["taught"]]
            assert keys_in(tmp_path / "second.key").public not in told
            cloud.stop()
