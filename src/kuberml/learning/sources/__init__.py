"""One file per data set: its files, how they are read, how they are split, and what a report must say about it."""
