"""Who exists: users and keys. Knows no money beyond the wallet's id, and no HTTP."""
