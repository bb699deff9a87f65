"""A Slurm cluster of one machine for tests: its controller and its node as processes on loopback, in a folder of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kuberml.worlds.live.names import free_port

NEEDED = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin"

CONF = """
ClusterName=kuberml-test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
InactiveLimit=0
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=localhost NodeAddr=127.0.0.1 CPUs=8 RealMemory=500 State=UNKNOWN
PartitionName=test Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Why no cluster can be had here; "" if one can."""
    missing = [name for name in NEEDED if shutil.which(name, path=SEARCH) is None]
    if missing:
        return f"no {missing[0]}: apt-get install slurm-wlm"
    return "" if os.getuid() == 0 else "slurmd must be started as root"


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Environment in which Slurm's commands talk to a cluster that is there until the end of the block."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, ctld=free_port("127.0.0.1"), slurmd=free_port("127.0.0.1")))
    environment = {"SLURM_CONF": str(conf), "PATH": f"{os.environ['PATH']}:{SEARCH}"}
    running = []
    try:
        for command in (["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", "localhost"]):
            with (folder / f"{command[0]}.out").open("wb") as out:
                running.append(
                    subprocess.Popen([*command, "-f", str(conf)], stdout=out, stderr=out, env={**os.environ, **environment})
                )
        _wait_for_the_node(folder, environment)
        yield environment
    finally:
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_the_node(folder: Path, environment: dict[str, str]) -> None:
    end_s = time.monotonic() + 40
    while time.monotonic() < end_s:
        found = subprocess.run(
            ["sinfo", "--noheader", "--format=%t"],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            check=False,
        )
        if found.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    logs = "".join(f"--- {log.name}\n{log.read_text()[-2000:]}\n" for log in sorted(folder.glob("*.log")))
    raise AssertionError(f"the node did not come up: {found.stdout!r} {found.stderr!r}\n{logs}")
