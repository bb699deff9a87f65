"""One thread a process: what is held, also while another thread of the process is still importing it."""

import subprocess
import sys

PROGRAM = """
import importlib, sys, threading
from kuberml.worlds.simulated.threads import OneThread

importing = threading.Thread(target=importlib.import_module, args=("torch",))
importing.start()
while "torch" not in sys.modules:
    pass
one = OneThread()
one.hold()
print(sys.modules["torch"].get_num_threads())
one.release()
importing.join()
"""


def test_what_another_thread_is_importing_is_held_too() -> None:
    """A service builds its first engine while it takes in what came: torch was there by name, and had no attributes yet."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr
