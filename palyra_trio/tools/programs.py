"""What a program is, before it is run: where it lies, and whether it can start any other, so that its name says little.

Such a program is opaque: a shell, an interpreter, a tool that runs what a file or an argument says, and whatever lies in
the workspace, where the model writes. Looks at files; decides nothing.
"""

import os
import re

import attrs

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import NotFound
from palyra_trio.tools.view import View, is_beneath

_SHEBANG_BYTES = 256
_VERSION = re.compile(r"[-.]?\d[\d.]*$")
_LOADER = re.compile(r"^ld(-linux.*|-musl.*|)\.so")

_SHELLS = "sh bash rbash dash ash zsh ksh mksh fish csh tcsh busybox toybox"
_INTERPRETERS = (
    "python pypy perl ruby irb jruby lua luajit node nodejs deno bun php tclsh wish expect guile racket r rscript julia "
    "java jshell groovy scala kotlin erl escript elixir iex ghci runghc runhaskell ocaml sbcl clisp awk gawk mawk nawk "
    "original-awk sed ed ex vi vim view vimdiff nvim emacs nano m4 dc gdb lldb sqlite psql mysql gnuplot octave wasmtime pwsh"
)
_WRAPPERS = (
    "env xargs find fd git hg svn ssh scp sftp rsync tar cpio zip make gmake bmake cmake ctest ninja meson bazel scons just "
    "gradle gradlew mvn ant cargo rustup go dotnet npm npx yarn pnpm corepack bundle rake gem pip pipx uv uvx poetry tox nox "
    "pytest conda gcc g++ cc c++ clang clang++ ld ld.bfd ld.gold lld collect2 ccache distcc sudo su doas setpriv runuser sg "
    "newgrp chroot unshare nsenter bwrap timeout nice ionice chrt taskset prlimit nohup setsid setarch stdbuf time strace "
    "ltrace script watch parallel flock entr start-stop-daemon systemd-run systemctl crontab at batch run-parts less more "
    "most man pager apt apt-get dpkg yum dnf rpm docker podman socat nc ncat netcat openssl sort split install-info "
    "tmux screen"
)
_OPAQUE = frozenset(f"{_SHELLS} {_INTERPRETERS} {_WRAPPERS}".split())


@attrs.frozen
class Program:
    """A program as it would be run. `why_opaque` is "" or the reason why it may start any other.

    `digest` is of its content, where it lies in the workspace and so may change.
    """

    path: str
    why_opaque: str = ""
    digest: str = ""


def look_up(view: View, name: str, cwd: str, workspace: str) -> Program:
    """Find a program as the sandbox shows it. `cwd` and `workspace` are absolute. Raises NotFound."""
    path = view.which(name, cwd)
    if path is None:
        raise NotFound(
            f"there is no program {name!r}",
            remedy=f"it is looked for in {', '.join(view.path)}; sandbox.path adds folders",
        )
    if not view.shows(path, workspace):
        raise NotFound(
            f"{path} leads to {os.path.realpath(path)}, which the sandbox does not show",
            remedy="sandbox.read_only adds folders that programs may read",
        )
    if is_beneath(os.path.realpath(path), workspace):
        with open(path, "rb") as file:
            return Program(path, "it lies in the workspace", digest(file.read()))
    return Program(path, why_opaque(path))


def why_opaque(path: str) -> str:
    """Return why the program of this name or content may start any other, or ""."""
    for each in dict.fromkeys((os.path.basename(path), os.path.basename(os.path.realpath(path)))):
        if is_opaque_name(each):
            return f"{each} can start any other program"
    with open(path, "rb") as file:
        first = file.read(_SHEBANG_BYTES)
    if first.startswith(b"#!"):
        interpreter = first[2:].partition(b"\n")[0].decode(errors="replace").strip()
        return f"it is a script, run by {interpreter}"
    return "" if first.startswith(b"\x7fELF") else "it is neither a script nor a binary"


def is_opaque_name(name: str) -> bool:
    """Whether a file name is of such a program, whatever its version or target: python3.11, x86_64-linux-gnu-gcc-12."""
    name = name.lower()
    stem = _VERSION.sub("", name)
    stems = {name, stem, stem.rpartition("-")[2], stem.partition(".")[0]}
    return bool(_LOADER.match(name)) or not _OPAQUE.isdisjoint(stems)
