"""Hands: what an agent can do inside a workspace."""
