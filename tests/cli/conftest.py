import sys
import types

import pytest

from kuberml.cli.main import main
from kuberml.scenario.aggregate import aggregate
from kuberml.scenario.progress import Progress
from kuberml.scenario.result import write_result
from tests.scenario.factory import run


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Call the command line in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["kuberml", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return call


@pytest.fixture
def engine(monkeypatch):
    """Stands in for the simulator: gives a made-up run for each paradigm and seed; `calls` says how it was asked."""
    calls = []

    def run_scenario(config, *, out, workers, resume, progress):
        calls.append({"config": config, "out": out, "workers": workers, "resume": resume})
        every = [(label, seed) for label in config.paradigms for seed in config.run_seeds]
        runs = []
        for i, (label, seed) in enumerate(every):
            runs.append(run(label, seed, top=0.9 if label.startswith("kuber") else 0.4))
            progress(Progress(paradigm=label, seed=seed, run=i, runs=len(every), time_s=5, until_s=9, accuracy_mean=0.5))
            if config.name == "stopped" and not resume:
                raise KeyboardInterrupt
            progress(Progress(paradigm=label, seed=seed, run=i, runs=len(every), time_s=9, until_s=9, done=True))
        result = aggregate(runs, config, wall_s=1.0)
        write_result(out, result, tuple(runs))
        return result

    module = types.ModuleType("kuberml.scenario.run")
    module.run_scenario = run_scenario
    monkeypatch.setitem(sys.modules, "kuberml.scenario.run", module)
    return calls
