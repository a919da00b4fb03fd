"""The benches: what the project promises in figures, measured beside the peers on the machine at hand. See README.md."""
