"""Makes a listening socket in the network of another process, hands it over and ends. Nothing but the standard library.

Run as a file (`python -I -S inner_listener_helper.py FD PID PORT [USER]`), not imported. FD is a stream socket, on which
goes one byte with the descriptor, or words on why there is none. See setns(2), ioctl_ns(2).
"""

import ctypes
import fcntl
import os
import socket
import sys

NS_GET_USERNS = 0xB701
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
BACKLOG = 128

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    channel, pid, port = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    try:
        if len(sys.argv) > 4:
            user = int(sys.argv[4])
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        enter_network(pid)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", port))
        listener.listen(BACKLOG)
        socket.send_fds(channel, [b"."], [listener.fileno()])
    except OSError as error:
        channel.sendall(str(error).encode())


def enter_network(pid: str) -> None:
    """Enter the network of a process, by way of the user namespace that owns it, where this user has every privilege."""
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    enter(fcntl.ioctl(network, NS_GET_USERNS), CLONE_NEWUSER)
    enter(network, CLONE_NEWNET)


def enter(namespace: int, kind: int) -> None:
    if libc.setns(namespace, kind) < 0:
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
