"""Generated from proto/ by `just proto`: messages and grpclib's services. Never edited; only wire, transports and clients use it."""
