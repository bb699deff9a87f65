"""The kinds of knowledge, one file each."""
