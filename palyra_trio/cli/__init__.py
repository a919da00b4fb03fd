"""A person at a terminal: answers on stdout, everything else on stderr."""
