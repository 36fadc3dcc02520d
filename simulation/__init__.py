"""The money protocol's own code under a seeded scheduler with virtual time (``farebox simulate``)."""
