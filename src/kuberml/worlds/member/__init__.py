"""A user's own learner: plain calls over the same Node and Desk, wherever members meet: in a folder, or at a hub."""
