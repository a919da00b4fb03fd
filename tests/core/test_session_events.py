"""The session stream's events are among those that a tape can hold. What their fields are, test_tape compares with the docs."""

import palyra_trio.core.session_events as session_events
from palyra_trio.core.codec import EVENT_CLASSES
from palyra_trio.core.tape import TapeEvent


def test_every_event_of_a_sessions_stream_is_one_that_a_tape_can_hold() -> None:
    classes = {each for each in vars(session_events).values() if isinstance(each, type) and issubclass(each, TapeEvent)}
    assert classes - {TapeEvent} <= set(EVENT_CLASSES)
    assert len(classes) == 8
