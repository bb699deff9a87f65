"""A model that is kept fresh from what edges learn, and forgets nothing: manifest, history, gate, drift."""
