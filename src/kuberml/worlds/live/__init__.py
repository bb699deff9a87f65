"""The live world: real processes on real networks. Zenoh carries what is said, HTTP byte ranges what is moved."""
