"""The hub's process: a router, the exchange's Hub, a vault that keeps copies, and an HTTP door."""
