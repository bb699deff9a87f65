"""Parts for kuberml from outside: a paradigm, a data set, a model, an extractor and a kind, each found by its entry point."""
