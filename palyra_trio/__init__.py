"""palyra-trio runs AI agents that people can trust, stop, resume and audit.

The layers; imports only point down:

    cli            a person at a terminal
    daemon         the composition root: the only place where things are constructed
    runtime        every task of the process starts here
    journal | guard | providers | tools     siblings that do not know each other
    core           data, tables, pure decisions

The flow of a run:

    1. `runtime.gateway` takes a command from a caller and puts it on the one bounded bus.
    2. `runtime.bus` routes it; `runtime.sessions` keeps one live run a session, the next ones queued.
    3. `runtime.runs` gives the run its cancel scope: cancelling the run is cancelling that scope.
    4. `runtime.agent` loops: `core.turn.decide` says what is next, it is performed, and recorded.
    5. `runtime.tool_flow` gates each proposed call and runs the batch in a child nursery.
    6. `journal.writer` commits in groups; `core.view.fold` moves the run's view only after the commit.
    7. `journal.feed` wakes followers; they read rows after their own seq, from memory or from the journal.
    8. Recovery is the same loop over a tape that is already partly written.

Start reading at `core/turn.py`, then `runtime/agent.py`, then `daemon.py`.
"""

__version__ = "0.1.0"
