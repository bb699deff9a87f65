"""How knowledge moves: the node, the hub, the broker, delivery and trial."""
