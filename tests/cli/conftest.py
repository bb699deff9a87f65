import sys

import pytest

from kuberml.cli.main import main


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
    """The real engine, watched: `calls` says how it was asked. A scenario called "stopped" gets a Ctrl-C after one run."""
    from kuberml.scenario import run

    calls = []
    real = run.run_scenario

    def run_scenario(config, *, out, workers, resume, progress):
        calls.append({"config": config, "out": out, "workers": workers, "resume": resume})

        def watch(step):
            progress(step)
            if config.name == "stopped" and step.done and not resume:
                raise KeyboardInterrupt

        return real(config, out=out, workers=1, resume=resume, progress=watch)

    monkeypatch.setattr(run, "run_scenario", run_scenario)
    return calls
