"""Who may do what, and which secrets must not be seen."""
