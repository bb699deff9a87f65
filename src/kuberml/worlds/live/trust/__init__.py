"""Whom a node or a hub believes: rolls of realms, keys, certificates, agreements, limits."""
