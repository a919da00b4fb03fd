# The tools are those of .venv: `python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[test]'`
export PATH := justfile_directory() / ".venv/bin:" + env("PATH")

code := "palyra_trio tests bench"

# What every change must pass
default: lint types test

# Style, async rules (flake8-async is slow, so the tests and benches have only those of ruff), and the direction of imports
lint:
    ruff check --quiet {{code}}
    ruff format --check --quiet {{code}}
    python -m flake8 --select ASYNC --extend-ignore ASYNC113,ASYNC114,ASYNC124,ASYNC9 palyra_trio
    lint-imports --no-logo

# Strict types
types:
    mypy

# The tests, two at a time; arguments go to pytest
test *ARGS:
    pytest -q -n 2 --dist worksteal {{ARGS}}

# One benchmark: `just bench append --quick`
bench NAME *ARGS:
    python -m bench {{NAME}} {{ARGS}}

# The heavy fault-injection suites, whole
faults:
    pytest -q -m slow tests/faults

# Programs that do not want to die: every animal, tier and user, cancelled at random and with its daemon killed; arguments are
# how often each, and how many at a time (200 20 1). Writes bench/results/zoo.txt
zoo *ARGS:
    python -m tests.tools.zoo_matrix {{ARGS}}

# Four thousand planted secrets, and a gigabyte of a program's output, through the real daemon
leaks:
    pytest -q -s -m slow tests/flows/test_no_leaks.py tests/flows/test_long_output.py

# The cases of h2spec 2.6, which must be on the PATH, against the gRPC server and the HTTP port
h2spec:
    python -m tests.wire.h2spec
    python -m tests.transports.h2spec_http

# The published gRPC interop cases, with the npm package @grpc/grpc-js, which this installs, and with grpcio; then HTTP/3 with
# ngtcp2, curl, Chromium and picoquic
interop:
    npm install --prefix tests/wire/interop --no-package-lock --ignore-scripts --no-audit --no-fund
    python -m tests.wire.interop
    npm install --prefix tests/wire/interop_quic --no-package-lock --ignore-scripts --no-audit --no-fund
    python -m tests.wire.interop_quic.picoquic
    python -m tests.wire.interop_quic

# The console in a real browser, whole: wants chromium
browser *ARGS:
    pytest -q -m "slow or not slow" tests/browser {{ARGS}}

# What QUIC must stand, whole: cuts and restarts, moves of the client, a bad wire, hostile peers. The last three want root
quic-faults:
    pytest -q -s -m slow tests/faults/test_quic_cuts.py tests/faults/test_quic_roaming.py tests/faults/test_quic_bad_link.py tests/faults/test_quic_hostile.py

# A development certificate authority and server certificate, in certs/
certs:
    ./certs/make

# Check the protobuf definitions and generate palyra_trio/pb from them
proto:
    buf lint proto
    buf breaking proto --against proto/baseline.binpb
    python proto/generate.py palyra_trio/pb

# Bring the code into its form
format:
    ruff check --quiet --fix {{code}}
    ruff format --quiet {{code}}
    buf format --write proto
