"""Numbered schema steps, plain SQL; `farebox/migrate.py` runs them. This package imports no other room."""
