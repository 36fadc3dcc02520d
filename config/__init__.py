"""What an operator decides: settings, and the catalogue of upstreams, models, prices and tiers."""
