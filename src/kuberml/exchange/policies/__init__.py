"""Policies of any paradigm with a server: whom it asks (`choosing`), and where clients' training runs (`offloading`)."""
