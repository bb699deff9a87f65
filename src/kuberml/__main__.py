"""`python -m kuberml` is the `kuberml` command."""

from runpy import run_module

if __name__ == "__main__":
    run_module("kuberml.cli", run_name="__main__", alter_sys=True)
