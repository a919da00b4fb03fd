"""What is served over plain HTTP, whatever its version: the JSON API, its description, metrics and probes."""
