"""The `farebox` command: the one place that assembles the other rooms."""
