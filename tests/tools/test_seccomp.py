"""The filter, run by an interpreter of classic BPF written here from the kernel's documentation."""

import errno
import re
import socket
import struct
from pathlib import Path

import pytest

from palyra_trio.tools import seccomp
from palyra_trio.tools.seccomp import filter_bytes

X86, ARM = "x86_64", "aarch64"
ARCH = {X86: 0xC000003E, ARM: 0xC00000B7}
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
HEADERS = {X86: Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ARM: Path("/usr/include/asm-generic/unistd.h")}
SOCKET = {X86: 41, ARM: 198}
CLONE = {X86: 56, ARM: 220}

both = pytest.mark.parametrize("machine", [X86, ARM])


def verdict(code: bytes, number: int, *arguments: int, arch: int) -> int:
    data = struct.pack("<iIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    lines, at, accumulator = list(struct.iter_unpack("<HBBI", code)), 0, 0
    while True:
        operation, if_true, if_false, operand = lines[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x06:
                return int(operand)
            case 0x15 | 0x35 | 0x45:
                tests = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
                at += if_true if tests[operation] else if_false
            case other:
                raise AssertionError(f"no such instruction: {other:#x}")


@both
def test_what_is_dangerous_is_refused_and_the_rest_allowed(machine: str) -> None:
    code, column = filter_bytes(sockets=True, machine=machine), [X86, ARM].index(machine)
    refused = {each[column] for each in seccomp._NEVER.values()}
    missing = {each[column] for each in seccomp._AS_IF_MISSING.values()}
    for number in range(500):
        expected = EPERM if number in refused else ENOSYS if number in missing else ALLOW
        if number not in (SOCKET[machine],):
            assert verdict(code, number, arch=ARCH[machine]) == expected


@both
def test_a_call_of_another_architecture_ends_the_program(machine: str) -> None:
    assert verdict(filter_bytes(sockets=True, machine=machine), 0, arch=0x40000003) == KILL


def test_the_second_numbering_of_x86_64_does_not_exist() -> None:
    assert verdict(filter_bytes(sockets=True, machine=X86), 0x40000000 + 101, arch=ARCH[X86]) == ENOSYS


@both
def test_a_process_or_thread_can_be_made_but_no_namespace(machine: str) -> None:
    code = filter_bytes(sockets=True, machine=machine)
    assert verdict(code, CLONE[machine], 0x003D0F00, arch=ARCH[machine]) == ALLOW  # as a thread is made
    assert verdict(code, CLONE[machine], 0x01200011, arch=ARCH[machine]) == ALLOW  # as a process is
    for namespace in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(code, CLONE[machine], namespace | 17, arch=ARCH[machine]) == EPERM


@both
def test_sockets_are_of_few_families_or_of_none(machine: str) -> None:
    some, none = (filter_bytes(sockets=each, machine=machine) for each in (True, False))
    for family in range(46):
        expected = ALLOW if family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6) else EPERM
        assert verdict(some, SOCKET[machine], family, arch=ARCH[machine]) == expected
        assert verdict(none, SOCKET[machine], family, arch=ARCH[machine]) == EPERM


@both
def test_nothing_is_typed_into_a_terminal(machine: str) -> None:
    code, ioctl = filter_bytes(sockets=True, machine=machine), {X86: 16, ARM: 29}[machine]
    assert verdict(code, ioctl, 0, 0x5412, arch=ARCH[machine]) == EPERM
    assert verdict(code, ioctl, 0, 1 << 32 | 0x5412, arch=ARCH[machine]) == EPERM  # the kernel looks at 32 bits only
    assert verdict(code, ioctl, 0, 0x5401, arch=ARCH[machine]) == ALLOW


@both
def test_the_numbers_are_those_of_the_kernel(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("this machine has no kernel headers")
    text, column = HEADERS[machine].read_text(), [X86, ARM].index(machine)
    calls = {**seccomp._NEVER, **seccomp._AS_IF_MISSING}
    calls |= {"clone": seccomp._CLONE, "ioctl": seccomp._IOCTL, "socket": seccomp._SOCKET}
    checked = 0
    for name, numbers in calls.items():
        found = re.search(rf"#define __NR(?:3264)?_{name}\s+(\d+)", text)
        if found:
            assert (name, numbers[column]) == (name, int(found[1]))
            checked += 1
        else:
            number = numbers[column]
            assert number is None or number > 440, name  # newer than these headers
    assert checked > 40


def test_a_machine_without_a_table_is_told() -> None:
    assert seccomp.is_known(X86)
    assert not seccomp.is_known("riscv64")
