"""Ranges of blobs between processes: HTTP where a holder can be dialled, windows through the router where not."""
