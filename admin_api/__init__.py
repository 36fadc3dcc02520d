"""The admin API: what admins do to tiers, prices, users, money and keys, over HTTP, beside the gateway."""
