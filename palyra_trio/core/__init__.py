"""Data, tables and pure decisions: no async, no clock, no file, no socket, no wire format."""
