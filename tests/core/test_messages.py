"""What is counted adds up, field by field."""

from palyra_trio.core.messages import Usage


def test_usage_adds_up_field_by_field() -> None:
    assert Usage(1, 2, 3) + Usage(10, 20, 30) == Usage(11, 22, 33)


def test_usage_of_nothing_changes_nothing() -> None:
    assert Usage() + Usage(1, 2, 3) == Usage(1, 2, 3)
