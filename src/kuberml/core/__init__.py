"""What everything stands on: ids, units, errors, randomness, canonical bytes, jobs, the seam. Imports nothing of ours."""
