"""HTTP/3 with clients and a server that others wrote, over real sockets: `python -m tests.wire.interop_quic`."""
