"""One Chromium for all of these tests, and one daemon for those that do not need one of their own."""

import os
import shutil
from collections.abc import Callable, Generator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.people import PATIENCE_MS, Daemon, Person

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)

expect.set_options(timeout=PATIENCE_MS)

Arrive = Callable[..., Person]
"""Signs somebody in: `arrive(daemon, **options)`, whose options are those of a browser's context."""


@pytest.fixture(scope="package")
def chromium() -> Generator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        reason = "there is no chromium: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    with Daemon.below(tmp_path_factory.mktemp("daemon")).running() as daemon:
        yield daemon


@pytest.fixture
def arrive(chromium: Browser) -> Generator[Arrive]:
    with ExitStack() as stack:

        def arrive(daemon: Daemon, *, errors: bool = False, **options: object) -> Person:
            return stack.enter_context(Person.at(chromium, daemon, errors=errors, **options))

        yield arrive
