from palyra_trio.tools import landlock


def test_a_confined_program_may_read_some_change_some_and_talk_to_nobody() -> None:
    rules = landlock.confinement(("/usr",), ("/project",), ("/dev/null",))
    granted = dict(rules.paths)
    assert granted["/usr"] & (1 << 1 | 0x3FF0 | 1 << 14) == 0  # no write, make, remove, truncate
    assert granted["/project"] & 0x7FFF == 0x7FFF
    assert granted["/dev/null"] & 1 == 0  # devices are not run
    assert (rules.filesystem, rules.network, rules.scoped) == (0xFFFF, 3, 3)


def test_the_fence_holds_signals_and_leaves_files_alone() -> None:
    fence = landlock.SIGNALS_ONLY
    assert (fence.network, fence.scoped) == (0, 2)
    assert fence.paths == (("/", fence.filesystem),)


def test_the_version_of_the_kernel_is_a_number() -> None:
    assert 0 <= landlock.kernel_abi() < 100
