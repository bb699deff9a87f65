"""Steps on an update: what a client does to it before it hands it in, and what a server does with those of a round.

Each step has two halves (`step.Step`): `send` at the client, `agree` and `combine` at the server. `table` says which may be
used together, with which sort of paradigm, and why not.
"""
