"""Durable truth: the hash-chained tape in SQLite, its one writer, and the only SQL of the package."""
