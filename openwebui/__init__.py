"""Open WebUI as Farebox sees it from outside: its admin API, its people, groups and models, and their mirror here."""
