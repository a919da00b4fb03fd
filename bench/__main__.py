"""`python -m bench NAME [--quick]`: run one bench, show its table, and end with its result as one JSON object."""

import argparse
import importlib

BENCHES = ("append", "console", "gate", "hands", "idle", "injection", "quic", "redact", "start", "steps", "stream")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Run one bench. The last line is JSON.")
    parser.add_argument("name", choices=BENCHES)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: it ends within 50 s")
    arguments = parser.parse_args()
    importlib.import_module(f"bench.{arguments.name}").measure(quick=arguments.quick).show()


if __name__ == "__main__":
    main()
