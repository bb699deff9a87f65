"""Answering over HTTP: bodies in, micro-batches through an engine, answers out, each by one named model."""
