"""The kuberml command."""
