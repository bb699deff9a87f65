"""Bytes of blobs between processes: HTTP byte ranges where the holder can be dialled, windowed Zenoh gets where it cannot.

Nothing here verifies content: `exchange.delivery` does, piece by piece. What is checked here is that an answer is the range
that was asked for, that it comes, and that nobody can make either side hold more than it agreed to.
"""
