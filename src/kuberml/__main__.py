"""`python -m kuberml` is the `kuberml` command."""

from kuberml.cli.main import main

if __name__ == "__main__":
    main()
