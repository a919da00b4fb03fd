"""What may be sent at once, and when the next burst may be, on slow paths and on very fast ones."""

import pytest

from palyra_trio.wire.quic_pacer import BurstPacer

SIZE = 1000
NOW = 10.0


def pacer(window: int, rtt_s: float) -> BurstPacer:
    found = BurstPacer(max_datagram_size=SIZE)
    found.update_rate(window, rtt_s)
    found.update_bucket(now=NOW)  # it was quiet for long
    return found


def burst(pacer: BurstPacer, now: float) -> tuple[int, float]:
    """Send all that may be sent. Return how much that was, and for how long the rest has to wait."""
    for sent in range(1000):
        at = pacer.next_send_time(now)
        if at is not None:
            return sent, at - now
        pacer.update_after_send(now)
    raise AssertionError("nothing holds it back")


def test_before_a_round_trip_was_measured_nothing_is_held_back() -> None:
    assert BurstPacer(max_datagram_size=SIZE).next_send_time(NOW) is None


@pytest.mark.parametrize(("window", "rtt_s"), [(100 * SIZE, 0.1), (10_000 * SIZE, 0.001), (1000 * SIZE, 1.0)])
def test_a_burst_has_sixteen_datagrams_after_a_silence_and_then_eight(window: int, rtt_s: float) -> None:
    paced = pacer(window, rtt_s)
    sent, wait_s = burst(paced, NOW)
    assert sent in (16, 17)  # the last may be begun with what is left of the allowance
    assert wait_s == pytest.approx(8 * max(SIZE * rtt_s / window, 1e-6))
    too_early, still_s = burst(paced, NOW + wait_s / 2)
    assert (too_early, pytest.approx(still_s)) == (0, wait_s / 2)
    assert burst(paced, NOW + wait_s * 1.01)[0] in (8, 9)


def test_with_a_small_window_a_burst_is_a_quarter_of_it() -> None:
    assert burst(pacer(16 * SIZE, 0.1), NOW)[0] in (4, 5)


def test_what_is_sent_in_a_second_is_no_more_than_the_window_in_each_round_trip() -> None:
    paced, now, sent = pacer(100 * SIZE, 0.1), NOW, 0
    while now < NOW + 1:
        count, wait_s = burst(paced, now)
        sent, now = sent + count, now + wait_s
    assert sent == pytest.approx(1000, rel=0.15)  # datagrams: a hundred in each of ten round trips
