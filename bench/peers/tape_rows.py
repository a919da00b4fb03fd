"""What the peers of `stream` send: the rows of the tapes, from memory, in the messages and batches that ours sends.

They make them as programs on grpcio and grpclib do, with the generated classes.
"""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.tape import run_stream
from palyra_trio.journal.queries import PAGE_ROWS, Reader
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.pb import runs_pb2
from palyra_trio.transports.convert import put_row

Tapes = dict[str, list[TapeRow]]


def given_tapes() -> Tapes:
    """Return the tapes of the runs on the command line: `STATE_DIR RUN...`."""
    state_dir, *run_ids = sys.argv[1:]
    with closing(Reader(Path(state_dir) / FILE_NAME)) as reader:
        return {run_id: list(reader.tape(run_stream(run_id))) for run_id in run_ids}


def one_by_one(tapes: Tapes, request: runs_pb2.RunStreamRequest) -> Iterator[runs_pb2.RunStreamResponse]:
    """Yield a message for each row that is asked for."""
    run_id = request.attach.run_id
    for row in tapes[run_id][request.attach.after_seq :]:
        response = runs_pb2.RunStreamResponse()
        put_row(response.batch.items.add(), run_id, row)
        yield response


def in_batches(tapes: Tapes, request: runs_pb2.RunStreamRequest) -> Iterator[runs_pb2.RunStreamResponse]:
    """Yield the messages in which ours sends the rows that are asked for: a page is less than a batch may hold."""
    run_id = request.attach.run_id
    rows = tapes[run_id][request.attach.after_seq :]
    for begin in range(0, len(rows), PAGE_ROWS):
        response = runs_pb2.RunStreamResponse()
        for row in rows[begin : begin + PAGE_ROWS]:
            put_row(response.batch.items.add(), run_id, row)
        yield response
