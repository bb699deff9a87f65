"""What happened, as W3C PROV: captured cheaply, stored append-only, queryable."""
