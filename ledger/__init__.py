"""The money: facts, added and never rewritten. See README.md in this folder."""
