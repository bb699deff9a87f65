"""Where nodes live: the same paradigm code runs in every world."""
