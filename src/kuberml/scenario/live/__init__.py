"""A scenario in the live world: its hub, services and learners as processes, real bytes, real time, the same result files."""
