"""kuberml: learned knowledge, delivered."""

__version__ = "0.1.0"
