"""The data plane: one call, from the first byte in to the settlement handed over."""
