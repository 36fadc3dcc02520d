"""Who exists: users, their groups, keys. Knows no money beyond the wallet's id, and no HTTP."""
