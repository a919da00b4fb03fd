"""Bytes <-> calls: gRPC over HTTP/2 on Trio, both ends. Knows no runtime; the daemon, the CLI and workers use it alike.

`framing` and `metadata` are sans-IO; `call` is one RPC on any transport; `h2_connection` drives h2 on a Trio stream, and
`h2_server` and `h2_client` are its two ends.
"""
