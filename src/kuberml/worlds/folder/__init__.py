"""A world in one folder: several processes of one machine share packages, verdicts and notices through it, without a server."""
