"""Bytes <-> calls: gRPC over HTTP/2 and HTTP/3 on Trio, both ends. Knows no runtime; the daemon, the CLI and workers use it alike.

`framing` and `metadata` are sans-IO. `call` and `client_call` are the two sides of one RPC, `call_stream` the stream under it
and `served_calls` all of a connection, on any transport. `h2_connection` drives h2 on a Trio stream; `quic_endpoint` and
`quic_dialer` bring datagrams from UDP to `quic_connection`, which drives aioquic, and `h3_connection` is HTTP/3 on top. Each
transport has two ends, `*_server` and `*_client`.
"""
