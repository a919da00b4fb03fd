from palyra_trio.tools.job import MARK, Job


def test_a_job_is_marked_with_its_token() -> None:
    assert Job("/bin/true", ("true",), "/w", "/w", "abc").mark() == {MARK: "abc"}
