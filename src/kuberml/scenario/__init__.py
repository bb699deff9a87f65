"""One TOML file -> a run -> result and report."""
