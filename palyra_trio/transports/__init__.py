"""The edges of the daemon: protobuf, HTTP and HTML on one side, commands and tape rows on the other."""
