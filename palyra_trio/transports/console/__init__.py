"""The console: pages for a person in a browser, rendered here from tapes and projections, and live by server-sent events."""
