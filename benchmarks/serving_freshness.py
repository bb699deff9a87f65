"""How soon the service answers what an edge has just learned: hub, service and edges as real processes, on loopback.

    python benchmarks/serving_freshness.py [--engine auto] [--json out.json]

Ten edges, one digit each, one after the other. For each: seconds from the moment in which it begins to describe its samples
to the first answer of `POST /v1/predict` that gives most of its test samples the right label, asked for every 10 ms;
and `freshness_s` as the service measured it itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kuberml.learning.datasets import DATASETS

ROOT = Path(__file__).parents[1]
DIGITS = DATASETS.get("digits")
ASK_EVERY_S, PATIENCE_S = 0.01, 30.0

EDGE = """
import sys, time
import numpy as np
import kuberml
from kuberml.learning.datasets import DATASETS
digits = DATASETS.get("digits")
train, public = digits.split("train"), digits.split("public")
those = train.y_N == int(sys.argv[1])
kuberml.agree(task="digits", labels=digits.labels, x=public.x_N, y=public.y_N, levels=16)
with kuberml.join(task="digits", labels=digits.labels, data=(train.x_N[those], train.y_N[those])) as me:
    print("ready", flush=True)
    sys.stdin.readline()
    print(time.time(), flush=True)
    me.publish(me.statistics())
    sys.stdin.readline()
"""


@contextlib.contextmanager
def process(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KUBERML_")}
    own = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "KUBERML_HOME": str(folder / "home")}
    running = subprocess.Popen([sys.executable, "-m", "kuberml.cli", *map(str, arguments)], cwd=folder, env={**clean, **own},
                               text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        yield running
    finally:
        running.terminate()
        running.communicate()


def told(running: subprocess.Popen[str]) -> dict[str, Any]:
    lines = ""
    while not lines.endswith("}\n"):
        lines += running.stdout.readline()  # type: ignore[union-attr]
    return dict(json.loads(lines))


def ask(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return json.loads(error.read())


def answered_s(url: str, label: str) -> float:
    """When most of this digit's test samples were given their label."""
    test = DIGITS.split("test")
    body = {"inputs": test.x_N[test.y_N == DIGITS.labels.index(label)][:20].tolist()}
    end_s = time.time() + PATIENCE_S
    while time.time() < end_s:
        found = ask(url, "/v1/predict", body).get("predictions", [])
        if found and np.mean([one["label"] == label for one in found]) > 0.5:
            return time.time()
        time.sleep(ASK_EVERY_S)
    raise SystemExit(f"{label} was not answered within {PATIENCE_S:g} s")


def measure(folder: Path, engine: str) -> dict[str, Any]:
    with process(folder, "hub", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json", "--quiet") as hub:
        address = told(hub)["address"]
        (folder / "edge.py").write_text(EDGE)
        arguments = ("--hub", address, "--task", "digits", "--http", "127.0.0.1:0", "--engine", engine, "--quiet", "--json")
        with process(folder, "serve", *arguments) as cloud:
            url, seen_s = told(cloud)["http"], []
            for label in DIGITS.labels:
                with process(folder, "join", "--hub", address, "--quiet", "edge.py", label) as edge:
                    assert edge.stdout.readline() == "ready\n"  # type: ignore[union-attr]
                    time.sleep(1.0)
                    edge.stdin.write("\n")  # type: ignore[union-attr]
                    edge.stdin.flush()  # type: ignore[union-attr]
                    began_s = float(edge.stdout.readline())  # type: ignore[union-attr]
                    seen_s.append(answered_s(url, label) - began_s)
            serving = ask(url, "/v1/models")["serving"]
    own_s = list(serving["freshness_s"].values())
    return {
        "engine": [serving["engine"]["name"], serving["engine"]["precision"]],
        "classes": len(seen_s),
        "seen_by_a_client_s": {"median": round(float(np.median(seen_s)), 3), "worst": round(max(seen_s), 3)},
        "freshness_s": {"median": round(float(np.median(own_s)), 3), "worst": round(max(own_s), 3)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kuberml-freshness-") as folder:
        found = measure(Path(folder), chosen.engine)
    text = json.dumps(found, indent=1)
    print(text)
    if chosen.json:
        chosen.json.write_text(text)


if __name__ == "__main__":
    main()
