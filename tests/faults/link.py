"""A bad wire between two interfaces, in a process of its own: `python -m tests.faults.link LEFT RIGHT` in their namespace.

Frames that come in on one go out on the other, late, twice, out of order or never, as the latest line on stdin says: a JSON
object of `Badness`' fields. It prints `ready`, and at the end of stdin what it did. The kernel's netem does the same
where the kernel has it; this needs packet sockets only.
"""

import heapq
import json
import random
import select
import socket
import sys
import time
from collections import Counter

import attrs

ETH_P_ALL, ETH_P_ARP = 3, b"\x08\x06"
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23  # packet(7)
VNET_HEADER_BYTES = 10  # before each frame: which checksums and segments its sender left to the hardware
FRAME_BYTES = 1 << 17
MOST_UNDERWAY = 20_000  # as with netem's `limit`, what comes on top of it is lost
AT_ONCE = 64


@attrs.frozen
class Badness:
    """Chances are of a frame. A frame that overtakes is not delayed."""

    loss: float = 0.0
    delay_s: float = 0.0
    overtaking: float = 0.0
    duplication: float = 0.0


def _port(interface: str) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    port.bind((interface, 0))
    port.setblocking(False)
    return port


class Wire:
    """What is under way between two ports, and until when."""

    def __init__(self, left: socket.socket, right: socket.socket, seed: int) -> None:
        self.badness = Badness()
        self.done: Counter[str] = Counter()
        self._others = {left: right, right: left}
        self._chance = random.Random(seed)
        self._underway: list[tuple[float, int, socket.socket, bytes]] = []
        self._number = 0

    def take(self, port: socket.socket) -> None:
        """Read what has come in on a port, and let it begin its way."""
        for _ in range(AT_ONCE):
            try:
                frame = port.recv(FRAME_BYTES)
            except BlockingIOError:
                return
            self._begin(self._others[port], frame)

    def _begin(self, out: socket.socket, frame: bytes) -> None:
        bad, chance, now = self.badness, self._chance, time.monotonic()
        if frame[VNET_HEADER_BYTES + 12 : VNET_HEADER_BYTES + 14] == ETH_P_ARP:  # who is there is not in question
            self._put(now, out, frame)
            return
        if chance.random() < bad.loss or len(self._underway) >= MOST_UNDERWAY:
            self.done["lost"] += 1
            return
        for copy in range(1 + (chance.random() < bad.duplication)):
            self.done["duplicated"] += copy
            overtakes = chance.random() < bad.overtaking
            self.done["overtaking"] += overtakes
            self._put(now + (0 if overtakes else bad.delay_s), out, frame)

    def _put(self, at: float, out: socket.socket, frame: bytes) -> None:
        self._number += 1
        heapq.heappush(self._underway, (at, self._number, out, frame))

    def deliver(self) -> float | None:
        """Hand over what is due, and return for how long nothing else will be; None when nothing is under way."""
        while self._underway and (wait_s := self._underway[0][0] - time.monotonic()) <= 0:
            _, _, out, frame = heapq.heappop(self._underway)
            try:
                out.send(frame)
                self.done["delivered"] += 1
            except OSError:  # its queue is full, or the interface is down: a wire has no memory
                self.done["lost"] += 1
        return max(wait_s, 0.0) if self._underway else None


def main(left: str, right: str, seed: int) -> None:
    """Carry frames until the end of stdin."""
    ports = _port(left), _port(right)
    wire = Wire(*ports, seed)
    print("ready", flush=True)
    while True:
        wait_s = wire.deliver()
        readable, _, _ = select.select([*ports, sys.stdin], [], [], wait_s)
        for each in readable:
            if isinstance(each, socket.socket):
                wire.take(each)
            elif line := each.readline():
                wire.badness = Badness(**json.loads(line))
            else:
                print(json.dumps(wire.done))
                return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
