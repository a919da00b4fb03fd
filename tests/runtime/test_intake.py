"""What is checked before a run is accepted, and what is written when it is."""

import os
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.chain import digest
from palyra_trio.core.commands import Accepted, DefineAgent, NewAttachment, StartRun
from palyra_trio.core.config import Config, WorkspacesConfig
from palyra_trio.core.errors import DiskLow, InvalidArgument, RunConflict, WorkspaceRefused
from palyra_trio.core.identity import RunId, SessionId
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.session import SessionRef
from palyra_trio.core.tape import Input
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.providers.choose import Choice
from tests.fakes import (
    CONFIG,
    ME,
    OTHER,
    SECRET,
    FakeProvider,
    assert_journal,
    in_session,
    open_fake_runtime,
    says,
    scripted,
)
from tests.journal.tickets import tampering

RUN_ID = RunId("01JZZZZZZZZZZZZZZZZZZZZZZZ")


async def test_a_prompt_is_redacted_before_it_is_written_or_sent(tmp_path: Path) -> None:
    provider = FakeProvider(says("done"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run(f"my key is {SECRET}\ntake care")
        runs = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
    assert tape.one(Input).text == "my key is [redacted:openai_key]\ntake care"
    assert provider.requests[0].messages[-1].text == tape.one(Input).text
    assert runs[0].title == "my key is [redacted:openai_key]"
    assert SECRET.encode() not in (tmp_path / "state" / "journal.sqlite3").read_bytes()


async def test_a_secret_in_the_name_of_a_file_or_a_model_is_redacted_and_a_repeat_attaches(tmp_path: Path) -> None:
    asked: list[str] = []

    async def choose(model: str, _base_url: str) -> Choice:
        await trio.lowlevel.checkpoint()
        asked.append(model)
        return Choice(FakeProvider(says("done")), model, "the test says so")

    async with open_fake_runtime(tmp_path, choose=choose) as runtime:
        command = StartRun(
            "look",
            RUN_ID,
            model=f"openai/{SECRET}",
            workspace=str(tmp_path),
            attachments=(NewAttachment(f"{SECRET}.txt", "text/plain", b"a"),),
        )
        await runtime.gateway.submit(command, ME)
        event = (await runtime.ended(RUN_ID)).one(Input)
        assert await runtime.gateway.submit(command, ME) == Accepted(RUN_ID, SessionId(event.session_id), attached=True)
    assert (event.model, event.attachments[0].name) == ("openai/[redacted:openai_key]", "[redacted:openai_key].txt")
    assert asked == [event.model]
    assert SECRET.encode() not in (tmp_path / "state" / "journal.sqlite3").read_bytes()


async def test_bytes_that_are_not_text_harm_nothing(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        tape = await runtime.run("a \udcff b", context=attrs.evolve(ME, device="\udcfe", channel="\ud800"))
    event = tape.one(Input)
    assert (event.text, event.device, event.channel) == ("a \\xff b", "\\xfe", "\\ud800")


async def test_a_workspace_whose_name_is_not_utf8_is_worked_in(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"w\xff\\x")
    folder.mkdir()
    (folder / "a.txt").write_text("alpha\n")
    provider = FakeProvider(says("", ToolCall("", "files.read", {"path": "a.txt"})), says("done"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run(workspace=str(folder))
    assert "alpha" in provider.requests[1].messages[-1].text
    assert tape.one(Input).workspace == f"{tmp_path}/w\\xff\\\\x"


async def test_attachments_reach_the_model_and_lie_in_the_journal_once(tmp_path: Path) -> None:
    data = bytes(range(256)) * 100
    files = (NewAttachment("a.bin", "application/octet-stream", data), NewAttachment("b \udcff", "text/plain", data))
    provider = FakeProvider(says("seen"), says("again"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        first = await runtime.start("look", attachments=files)
        tape = await runtime.ended(first.run_id)
        await runtime.run("and now?", session=in_session(first))
        assert await runtime.gateway.ask(lambda reader: reader.blob(digest(data))) == data
        assert await runtime.gateway.ask(lambda reader: [body for _, body in reader.blobs()].count(data)) == 1
    assert [(each.name, each.size_bytes) for each in tape.one(Input).attachments] == [
        ("a.bin", len(data)),
        ("b \\xff", len(data)),
    ]
    for request in provider.requests:
        assert request.attachments == {digest(data): data}


async def test_an_attachment_alone_is_a_message(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        tape = await runtime.run("", attachments=(NewAttachment("a", "text/plain", b"a"),))
    assert tape.end == (RunState.DONE, "final_answer")


@pytest.mark.parametrize(
    ("files", "fault"),
    [([b"1234567"], "attachment 0 has 7 bytes, and at most 6"), ([b"1"] * 3, "3 attachments, and at most 2")],
)
async def test_attachments_beyond_their_limits_are_refused(tmp_path: Path, files: list[bytes], fault: str) -> None:
    config = attrs.evolve(CONFIG, attachments=attrs.evolve(CONFIG.attachments, max_count=2, max_bytes=6))
    async with open_fake_runtime(tmp_path, config=config) as runtime:
        with pytest.raises(InvalidArgument, match=fault):
            await runtime.start(attachments=tuple(NewAttachment(str(i), "t/p", d) for i, d in enumerate(files)))
    assert assert_journal(tmp_path / "state") == {}


async def test_low_disk_refuses_what_is_new_and_not_what_is_known(tmp_path: Path) -> None:
    free = 1000
    config = attrs.evolve(CONFIG, journal=attrs.evolve(CONFIG.journal, min_free_bytes=500))
    async with open_fake_runtime(tmp_path, config=config, free_bytes=lambda: free) as runtime:
        await runtime.run(run_id=RUN_ID)
        free = 499
        with pytest.raises(DiskLow, match="free where the journal lies"):
            await runtime.start()
        assert (await runtime.start(run_id=RUN_ID)).attached
        free = 500
        await runtime.run()


async def test_what_lies_on_a_disk_is_looked_at_in_a_thread(tmp_path: Path) -> None:
    looking = list[threading.Thread]()

    def config_in(_workspace: str) -> Config:
        looking.append(threading.current_thread())
        return CONFIG

    async with open_fake_runtime(tmp_path) as runtime:
        runtime.gateway.reload(CONFIG, config_in)
        await runtime.run()
    assert len(looking) == 1
    assert looking[0] is not threading.current_thread()


async def test_a_repeated_request_attaches_whatever_has_changed_since(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        runtime.models["gone"] = FakeProvider(says("x"))
        folder = tmp_path / "gone"
        folder.mkdir()
        fields: dict[str, Any] = {
            "model": "gone",
            "workspace": str(folder),
            "run_id": RUN_ID,
            "session": SessionRef(key="k\udcff"),
        }
        first = await runtime.start("a \udcff", **fields)
        await runtime.ended(RUN_ID)
        del runtime.models["gone"]
        folder.rmdir()
        again = await runtime.start("a \udcff", **fields)
    assert again == attrs.evolve(first, attached=True)


async def test_a_repeated_request_for_a_run_whose_input_was_erased_is_refused(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, checked=False) as runtime:
        await runtime.run(run_id=RUN_ID)
        with tampering(runtime.state_dir / FILE_NAME) as db:
            db.execute("UPDATE ev SET body = NULL, salt = NULL WHERE kind = ?", (Input.kind,))
        with pytest.raises(RunConflict, match="was erased") as refused:
            await runtime.start(run_id=RUN_ID)
        assert refused.value.remedy


async def test_a_folder_that_is_none_or_not_named_by_its_whole_path_is_refused_with_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir(exist_ok=True)
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    async with open_fake_runtime(tmp_path) as runtime:
        for folder in (tmp_path / "none", tmp_path / "file", tmp_path / "file" / "deep"):
            with pytest.raises(InvalidArgument, match=f"there is no folder '{folder}' for the run") as refused:
                await runtime.start(workspace=str(folder))
            assert "whole path of a folder that exists" in refused.value.remedy
        for folder in ("work", ".", "~/work"):  # that of the daemon's own folder is nobody's affair
            with pytest.raises(InvalidArgument, match=f"'{folder}' is not named by its whole path") as refused:
                await runtime.start(workspace=folder)
            assert "whole path of a folder that exists" in refused.value.remedy
    assert assert_journal(tmp_path / "state") == {}


@pytest.mark.parametrize("there", [True, False])
async def test_a_folder_with_a_secret_in_its_path_is_refused_recorded_nowhere_and_not_repeated(
    tmp_path: Path, there: bool
) -> None:
    folder = tmp_path / f"for-{SECRET}"
    if there:
        folder.mkdir()
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(InvalidArgument, match="path holds a secret") as refused:
            await runtime.start(workspace=str(folder))
        assert SECRET not in str(refused.value)
    assert SECRET.encode() not in (tmp_path / "state" / FILE_NAME).read_bytes()


async def test_a_workspace_that_vanishes_while_its_run_waits_fails_the_run(tmp_path: Path) -> None:
    folder, gate = tmp_path / "gone", trio.Event()
    folder.mkdir()
    async with open_fake_runtime(tmp_path, FakeProvider([gate.wait, *says("done")])) as runtime:
        first = await runtime.start()
        accepted = await runtime.start(session=in_session(first), workspace=str(folder))
        folder.rmdir()
        gate.set()
        tape = await runtime.ended(accepted.run_id)
    assert tape.kinds == ["Input", "RunFinished"]
    assert tape.end == (RunState.FAILED, "not_found")


async def test_an_agent_keeps_within_the_limits_that_hold_in_its_folder(tmp_path: Path) -> None:
    limits = attrs.evolve(CONFIG.limits, turns=CONFIG.limits.turns + 1, tool_s=1)
    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.do(DefineAgent(AgentSpec("judge", limits=limits)))
        tape = await runtime.run(agent="judge")
    assert tape.one(Input).agent.limits == attrs.evolve(CONFIG.limits, tool_s=1)


# --- in which folder somebody else than the local user may work ---

REMOTE = attrs.evolve(ME, channel="cli", local=False)


def rooted(*roots: Path) -> Config:
    return attrs.evolve(CONFIG, workspaces=WorkspacesConfig({ME.principal: tuple(map(str, roots))}))


async def test_from_elsewhere_a_run_works_beneath_the_principals_folders_by_their_real_names(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "root").symlink_to(tmp_path / "real")
    (tmp_path / "in").symlink_to(tmp_path / "real" / "deep")
    async with open_fake_runtime(tmp_path, config=rooted(tmp_path / "root")) as runtime:
        for folder, real in (
            ("real", "real"),
            ("root/deep", "real/deep"),
            ("in", "real/deep"),
            ("root/deep/..", "real"),
        ):
            tape = await runtime.run(workspace=str(tmp_path / folder), context=REMOTE)
            assert tape.one(Input).workspace == str(tmp_path / real)


async def test_from_elsewhere_what_leads_out_of_the_principals_folders_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "root2").mkdir()
    (root / "out").symlink_to(tmp_path)
    async with open_fake_runtime(tmp_path, config=rooted(root)) as runtime:
        for folder in (
            tmp_path,
            tmp_path / "root2",
            root / "..",
            root / "out",
            root / "out" / "work",
            tmp_path / "none",
        ):
            with pytest.raises(WorkspaceRefused, match="beneath none of the folders of user:me"):
                await runtime.start(workspace=str(folder), context=REMOTE)
        with pytest.raises(InvalidArgument, match="no workspace is named"):
            await runtime.start(workspace="", context=REMOTE)
        for relative in (".", "root"):
            with pytest.raises(WorkspaceRefused):
                await runtime.start(workspace=relative, context=REMOTE)
        with pytest.raises(WorkspaceRefused, match="user:other has no folder"):
            await runtime.start(workspace=str(root), context=attrs.evolve(REMOTE, principal=OTHER.principal))
        with pytest.raises(InvalidArgument, match="there is no folder"):
            await runtime.start(workspace=str(root / "none"), context=REMOTE)
        await runtime.run(workspace=str(tmp_path / "root2"), context=ME)
    assert len(assert_journal(tmp_path / "state")) == 1


async def test_without_folders_of_ones_own_nothing_starts_from_elsewhere(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(WorkspaceRefused, match="has no folder to work in") as caught:
            await runtime.start(context=REMOTE)
    assert "[workspaces] roots" in caught.value.remedy
    assert assert_journal(tmp_path / "state") == {}


async def test_from_elsewhere_the_state_directory_is_out_of_reach_whatever_the_folders_are(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, config=rooted(tmp_path)) as runtime:
        for folder in (tmp_path, runtime.state_dir):
            with pytest.raises(WorkspaceRefused, match="the daemon's own state"):
                await runtime.start(workspace=str(folder), context=REMOTE)
        await runtime.run(context=REMOTE)


async def test_from_elsewhere_no_model_is_read_from_a_file_of_this_machine(tmp_path: Path) -> None:
    script = scripted({"text": "from the file"})
    async with open_fake_runtime(tmp_path, config=rooted(tmp_path / "work")) as runtime:
        runtime.models["scripted/turns.json"] = script
        with pytest.raises(InvalidArgument, match="names a file"):
            await runtime.start(model="scripted/turns.json", context=REMOTE)
        await runtime.run(model="scripted/turns.json")


async def test_a_tool_that_is_allowed_with_the_run_and_does_not_exist_is_refused(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(InvalidArgument, match=r"no tool 'file\.write'") as refused:
            await runtime.run("hi", allowed_tools=("file.write",))
        assert "files.write" in refused.value.remedy
        assert not await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
