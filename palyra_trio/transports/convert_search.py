"""Between the messages of search.proto and the hits of a search, both ways."""

from typing import get_args

from palyra_trio.core.identity import RunId
from palyra_trio.journal.search import Hit, Part, Piece
from palyra_trio.pb import search_pb2 as pb

_PREFIX = "SEARCH_PART_"
_PARTS: dict[int, Part] = {pb.SearchPart.Value(_PREFIX + part.upper()): part for part in get_args(Part)}


def hit_message(hit: Hit) -> pb.SearchHit:
    return pb.SearchHit(
        run_id=hit.run_id,
        seq=hit.seq,
        at_ms=hit.at_ms,
        part=_PREFIX + hit.part.upper(),
        excerpt=[pb.SearchPiece(text=piece.text, found=piece.found) for piece in hit.excerpt],
        turn=hit.turn,
        call_id=hit.call_id,
        tool=hit.tool,
        proposed_seq=hit.proposed_seq,
    )


def hit_of_message(message: pb.SearchHit) -> Hit:
    return Hit(
        RunId(message.run_id),
        message.seq,
        message.at_ms,
        _PARTS[message.part],
        tuple(Piece(each.text, each.found) for each in message.excerpt),
        message.turn,
        message.call_id,
        message.tool,
        message.proposed_seq,
    )
