from palyra_trio.wire.quic_memory import MemoryBudget

NETWORK = {"a1": b"a", "a2": b"a", "a3": b"a", "b": b"b"}


def test_it_is_over_when_all_together_keep_too_much_and_not_before() -> None:
    memory: MemoryBudget[str] = MemoryBudget(100)
    memory.note("a1", 60)
    memory.note("b", 40)
    assert not memory.is_over
    memory.note("b", 41)
    assert memory.is_over
    memory.note("a1", 10)
    assert not memory.is_over


def test_who_is_gone_keeps_nothing() -> None:
    memory: MemoryBudget[str] = MemoryBudget(100)
    memory.note("a1", 200)
    memory.forget("a1")
    memory.forget("a1")
    assert not memory.is_over
    memory.note("a2", 100)
    assert not memory.is_over


def test_the_heaviest_is_of_the_network_that_keeps_the_most_however_it_is_split() -> None:
    memory: MemoryBudget[str] = MemoryBudget(100)
    for keeper, kept_bytes in {"a1": 20, "a2": 30, "a3": 25, "b": 60}.items():
        memory.note(keeper, kept_bytes)
    assert memory.heaviest(NETWORK.__getitem__) == "a2"
    memory.forget("a2")
    assert memory.heaviest(NETWORK.__getitem__) == "b"
