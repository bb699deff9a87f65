"""`python -m kuberml.cli` is the `kuberml` command."""

from kuberml.cli.main import main

if __name__ == "__main__":
    main()
