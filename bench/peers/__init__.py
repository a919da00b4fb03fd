"""The contestants of `steps`, each run as a process of its own: `python -m bench.peers.NAME WORKERS RUNS_EACH FOLDER`."""
