"""gRPC's published interop cases, by clients and servers of several kinds: `python -m tests.wire.interop`."""
