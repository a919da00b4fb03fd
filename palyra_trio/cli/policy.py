"""`palyra-trio policy`: check, test, show, import and reload the policies. What asks why is in `policy_questions`."""

import sys
import time
from pathlib import Path

import click
import trio

from palyra_trio.cli import exit_codes
from palyra_trio.cli.door import ask_process
from palyra_trio.cli.open import confirm, read_settings
from palyra_trio.cli.policy_cases import read_cases, try_cases
from palyra_trio.cli.policy_questions import diff, explain, why
from palyra_trio.cli.policy_sets import CURRENT, NamedSet, in_force, known_tools, named
from palyra_trio.cli.profiles import chosen
from palyra_trio.cli.tables import json_option, print_json, print_table, safe_for_stdout
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NoDaemon, NotFound
from palyra_trio.core.policy import Preset
from palyra_trio.core.text import visible
from palyra_trio.core.words import one_line
from palyra_trio.guard.claude_rules import import_claude_rules
from palyra_trio.guard.policy_files import read_named, read_policy_files
from palyra_trio.guard.policy_folder import change_file
from palyra_trio.guard.policy_text import PolicySource, statements
from palyra_trio.guard.presets import policy_hash, preset
from palyra_trio.pb import policy_pb2
from palyra_trio.pb.policy_grpc import PolicyServiceStub
from palyra_trio.runtime.policies import check_set

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def policy() -> None:
    """Check, test, explain and reload what decides on tool calls.

    Your policies are the files *.cedar in the folder `policies` beside your config.toml. They add to a set that comes
    with the program, the preset (policy.preset: default, strict or trusted-workspace). See docs/policy.md.
    """


for _command in (why, diff, explain):
    policy.add_command(_command)


@policy.command()
@click.argument("files", nargs=-1, type=_FILE)
@click.option("--dir", "folder", type=_FOLDER, help="Check the files *.cedar of this folder instead of yours.")
@json_option
def check(files: tuple[Path, ...], folder: Path | None, as_json: bool) -> None:
    """Look for faults in policies: in FILES, in a folder, or in yours. Exit status 78 when there is one.

    Every fault is shown, with its file and line. The files are taken as one set, with the preset.
    """
    if files and folder:
        raise click.UsageError("name files or --dir, not both")
    settings = read_settings()
    where = folder or settings.policies_dir
    found = read_named((str(path), path) for path in files) if files else read_policy_files(where)
    trio.run(check_set, found, settings.config.policy)
    count = sum(map(_count, found))
    if as_json:
        print_json({"files": [each.name for each in found], "policies": count, "hash": policy_hash(found)})
        return
    place = "" if files else f" in {visible(str(where))}"
    click.echo(f"no fault: {_number(len(found), 'file')}{place}, {_number(count, 'policy', 'policies')}")


@policy.command("test")
@click.argument("file", type=_FILE)
@click.option("--policies", "name", default=CURRENT, metavar="SET", help="current, a preset, or a folder of policies.")
@json_option
def test_cases(file: Path, name: str, as_json: bool) -> None:
    """Try the cases of FILE: calls, each with the outcome that you expect. Exit status 1 when one differs.

    A case names a tool, what it would be called on, and `expect` = "allow", "ask" or "deny". See docs/policy.md.
    """
    tried = try_cases(read_cases(file), known_tools(), named(name).engine(), int(time.time()))
    failed = sum(not each.passed for each in tried)
    if as_json:
        cases = [
            {
                "name": each.case.name,
                "expected": each.case.expect,
                "found": each.found.decision.outcome,
                "policies": each.found.decision.policies,
                "reason": each.found.decision.reason,
                "passed": each.passed,
            }
            for each in tried
        ]
        print_json({"cases": cases, "failed": failed})
    else:
        rows = []
        for each in tried:
            decision, lacking = each.found.decision, "".join(f"; not by {name}" for name in each.missing)
            word = "ok" if each.passed else "DIFFERS"
            rows.append((word, each.case.name, each.case.expect, decision.outcome, f"{decision.reason}{lacking}"))
        print_table(("", "CASE", "EXPECTED", "FOUND", "BECAUSE"), rows)
        click.echo(f"{len(tried) - failed} of {_number(len(tried), 'case')} as expected", err=True)
    sys.exit(exit_codes.FAILED if failed else exit_codes.OK)


@policy.command()
@click.argument("name", required=False)
@json_option
def show(name: str | None, as_json: bool) -> None:
    """Show what is in force, and where; or the text of NAME, one of your files or a preset."""
    current = in_force()
    if name is not None:
        click.echo(safe_for_stdout(_text(name, current)), nl=False)
        return
    rules = current.rules
    if as_json:
        files = [{"name": each.name, "policies": _count(each)} for each in current.files]
        lists = {"allow": rules.allow, "ask": rules.ask, "deny": rules.deny}
        print_json({"preset": rules.preset, **lists, "hash": current.hash, "files": files, "live": current.answered})
        return
    click.echo(f"preset   {rules.preset}")
    for word, tools in (("allow", rules.allow), ("ask", rules.ask), ("deny", rules.deny)):
        if tools:
            click.echo(f"{word:8} {', '.join(tools)}")
    click.echo(f"hash     {current.hash}")
    names = ", ".join(f"{one_line(each.name)} ({_count(each)})" for each in current.files)
    click.echo(f"files    {names or 'none of yours'}")
    if not current.answered:
        click.echo("no daemon runs here: this holds from its next start", err=True)
    elif chosen() is None and read_policy_files(read_settings().policies_dir) != current.files:
        click.echo("your files have changed since; `palyra-trio policy reload` puts them in force", err=True)


def _text(name: str, current: NamedSet) -> str:
    known = {each.name: each.text for each in current.files} | {each.value: preset(each).text for each in Preset}
    if name not in known:
        raise NotFound(f"there is no file {name!r} in force", remedy=f"there are {', '.join(known)}")
    return known[name]


@policy.command()
@json_option
def reload(as_json: bool) -> None:
    """Put your policies in force as they are written now, for runs that are under way too.

    A file with a fault is refused with file, line and reason (exit status 78), and the old policies stay in force.
    """
    answer = ask_process(PolicyServiceStub, "ReloadPolicies", policy_pb2.ReloadPoliciesRequest())
    if answer is None:
        raise NoDaemon(
            "no daemon runs here, so there is nothing to reload", remedy="your policies hold from its next start"
        )
    if as_json:
        print_json({"changed": answer.changed, "hash": answer.hash})
    else:
        click.echo(f"{'in force now' if answer.changed else 'nothing changed'}: {answer.hash[:12]}")


@policy.command("import-claude")
@click.argument("file", type=_FILE)
@click.option("--yes", is_flag=True, help="Do not ask.")
def import_claude(file: Path, yes: bool) -> None:
    """Take over the allow, ask and deny rules of FILE, a settings file as JSON, as policies of yours.

    Shows the policies, and what could not be carried over exactly; writes them once you agree, and reloads a daemon that
    runs here.
    """
    if chosen() is not None:
        raise InvalidArgument("policies are imported where the daemon runs", remedy="leave out --daemon")
    try:
        document = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} cannot be read: {error}") from error
    imported = import_claude_rules(document, str(Path.home().resolve()))
    settings = read_settings()
    trio.run(check_set, [imported.source], settings.config.policy)
    click.echo(safe_for_stdout(imported.source.text))
    for note in imported.notes:
        click.echo(
            f"{note.outcome}: {note.list} {one_line(note.rule)}: {one_line(note.reason)}".replace("  ", " "), err=True
        )
    if not imported.source.text:
        raise ConfigInvalid("none of the rules can be carried over, so nothing was written")
    path = settings.policies_dir / imported.source.name
    confirm(f"{'Replace' if path.exists() else 'Write'} {visible(str(path))}?", yes)

    async def write() -> None:
        await change_file(
            settings.policies_dir, lambda _: imported.source, lambda files: check_set(files, settings.config.policy)
        )

    trio.run(write)
    click.echo(f"wrote {visible(str(path))}", err=True)
    if ask_process(PolicyServiceStub, "ReloadPolicies", policy_pb2.ReloadPoliciesRequest()) is not None:
        click.echo("in force now", err=True)


def _count(source: PolicySource) -> int:
    return sum(1 for _ in statements(source.text))


def _number(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"
