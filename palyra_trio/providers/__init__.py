"""Models: one conversation in, a stream of deltas and one reply out."""
