"""What a caller may do: tiers, windows, concurrency and entitlement. Knows no HTTP, no money and no database."""
