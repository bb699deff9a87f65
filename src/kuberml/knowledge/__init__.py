"""Knowledge as a value: card, signature, the kinds and their algebra, want and offer."""
