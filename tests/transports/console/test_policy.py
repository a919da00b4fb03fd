"""The policies in force: what they are, as text, by whom and when they were put there; reloaded by who may."""

from pathlib import Path

import attrs

from palyra_trio.core.identity import Scope
from palyra_trio.core.policy import PolicyRules
from tests.fakes import CONFIG, OTHER
from tests.transports.console.browsing import Console, open_console

READER = frozenset({Scope.READ})
MINE = '@id("no-example")\n@reason("not there")\nforbid (principal, action, resource)\nwhen { context.common.tool.name == "x" };\n'
XSS = "<script>alert(1)</script>"


def write(console: Console, name: str, text: str) -> None:
    folder = console.runtime.state.policies_dir
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)


async def test_without_files_the_preset_decides_alone(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        page = await console.visitor().get("/policy")
        assert "preset default" in page
        assert "You have no policies of your own yet." in page
        assert "no files, the preset alone at the start of the daemon" in page


async def test_what_the_configuration_says_is_told(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, policy=PolicyRules(allow=("files.read",), deny=("net.*",)))
    async with open_console(tmp_path, config=config) as console:
        page = await console.visitor().get("/policy")
        assert "Allowed by the configuration: files.read" in page
        assert "Denied by the configuration: net.*" in page
        assert "config 2 policies" in page


async def test_files_are_put_in_force_and_it_is_told_by_whom(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        write(console, "mine.cedar", MINE)
        done = await browser.post("/policy/reload", {"next": "/policy"})
        assert done.status == 303
        page = await browser.get(done.headers["Location"])
        assert "The files are in force as they are written now." in page
        assert "mine.cedar 1 policy" in page
        assert "mine.cedar by user:me" in page
        again = await browser.post("/policy/reload")
        assert "Nothing has changed in the files." in await browser.get(again.headers["Location"])


async def test_a_fault_is_told_with_its_line_and_the_old_policies_stay(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        before = console.runtime.gateway.policies.hash
        write(console, "mine.cedar", "\npermit (prin);\n")
        page = await console.visitor().post("/policy/reload")
        assert page.status == 422
        assert "The old policies stay in force" in page
        assert "mine.cedar:2" in page
        assert console.runtime.gateway.policies.hash == before


async def test_a_text_has_its_lines_numbered_and_each_can_be_pointed_at(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        write(console, "mine.cedar", MINE + f"// {XSS}\n")
        await console.runtime.gateway.policies.reload("user:me")
        page = await console.visitor(scopes=READER).get("/policy/text?of=mine.cedar")
        assert '<li id="L2"><code>@reason(&#34;not there&#34;)</code></li>' in page.text
        assert XSS in page
        assert XSS not in page.text
        assert "within-the-run" in await console.visitor().get("/policy/text?of=preset default")
        for name in ("../../etc/passwd", "other.cedar", ""):
            assert (await console.visitor().get(f"/policy/text?of={name}")).status == 404


async def test_what_a_project_narrows_is_shown_on_demand_to_the_user_of_this_machine(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        narrowed = attrs.evolve(CONFIG, policy=PolicyRules(deny=("process.*",)))
        console.runtime.gateway.reload(CONFIG, lambda folder: narrowed if folder == "/project" else CONFIG)
        mine = await console.visitor().get("/policy?workspace=/project")
        assert "Denied by the configuration: process.*" in mine
        assert "In /project" in mine
        assert "process.*" in await console.visitor().get("/policy/text?of=config&workspace=/project")
        remote = console.visitor(attrs.evolve(OTHER, local=False))
        assert "process.*" not in await remote.get("/policy?workspace=/project")


async def test_who_may_only_read_is_not_offered_a_reload_nor_told_who_did(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        write(console, "mine.cedar", MINE)
        await console.runtime.gateway.policies.reload(OTHER.principal)
        browser = console.visitor(scopes=READER)
        page = await browser.get("/policy")
        assert "/policy/reload" not in page.text
        assert "by somebody else" in page
        assert OTHER.principal not in page
        assert OTHER.principal in await console.visitor().get("/policy")
        assert (await browser.post("/policy/reload")).status == 403
