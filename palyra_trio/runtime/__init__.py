"""The moving parts: every task of the process starts here."""
