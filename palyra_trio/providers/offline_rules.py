"""The rules of the offline provider: a plain request to the steps that carry it out. Pure; a table, not a parser.

A prompt is cut into clauses, and each clause must fit one rule whole: what is understood in part is not understood.
Quoted text is never cut.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs

EXAMPLES = (
    "list the files here",
    "list the files in DIR",
    "read FILE",
    "show me the first 5 lines of FILE",
    "search for TEXT in DIR",
    "what time is it",
    'write "TEXT" to FILE',
    "create FILE with TEXT",
    "create hello.py",
    "replace OLD with NEW in FILE",
    '/tool NAME {"argument": "value"}',
    "several of these, joined by `and`, `then` or `;`",
)
FIRST_LINES = 10
HELLO_WORLD = 'print("Hello, world!")\n'
MAX_CHARACTERS = 2000  # quoted text not counted: what is longer is no plain request, and matching it takes long
MAX_ANDS = 10  # in one clause: the ways to cut it double with each


@attrs.frozen
class Step:
    """One tool call, and the words for it: `title` heads its result, `doing` names it where it failed.

    `refers` says that its path is still open: the file that the steps before it are about.
    """

    tool: str
    arguments: dict[str, Any]
    title: str
    doing: str
    refers: bool = False


class NotUnderstood(Exception):
    """The argument is the clause that no rule fits."""


def plan(prompt: str) -> tuple[Step, ...]:
    """Return the steps that `prompt` asks for, at least one, in order. Raises NotUnderstood."""
    quoted = _Quoted()
    hidden = quoted.hide(prompt)
    if len(hidden) > MAX_CHARACTERS:
        raise NotUnderstood(hidden[:40] + "…")
    steps: list[Step] = []
    for clause in _THEN.split(hidden):
        found = _steps(_tidied(clause), quoted)
        if found is None:
            raise NotUnderstood(quoted.restored(clause.strip()))
        for step in found:
            _append(steps, step)
    if not steps:
        raise NotUnderstood(prompt.strip())
    return tuple(steps)


def _steps(clause: str, quoted: "_Quoted") -> list[Step] | None:
    """Return the steps of a clause, cut at each `and` whose sides are both understood; None if it is not understood."""
    if not clause:
        return []
    cuts = [(cut.start(), cut.end()) for cut in _AND.finditer(clause)]
    if len(cuts) > MAX_ANDS:
        cuts = []
    for end, start in [*cuts, (len(clause), len(clause))]:
        first = _match(_tidied(clause[:end]), quoted)
        if first is not None:
            rest = _steps(_tidied(clause[start:]), quoted)
            if rest is not None:
                return [first, *rest]
    return None


def _match(clause: str, quoted: "_Quoted") -> Step | None:
    for pattern, build in _RULES:
        if match := pattern.fullmatch(clause):
            return build({name: quoted.plain(word) for name, word in match.groupdict(default="").items()})
    return None


def _append(steps: list[Step], step: Step) -> None:
    """Add a step, first giving it the file that the steps before it are about, where it refers to that."""
    if step.refers:
        path = next((each.arguments["path"] for each in reversed(steps) if each.tool in _ABOUT_A_FILE), "")
        if not path:
            raise NotUnderstood(step.doing)
        if steps[-1] == _read(path):  # "read X and show the first lines" asks for one thing
            steps.pop()
        step = _read(**step.arguments | {"path": path})
    steps.append(step)


def _tidied(clause: str) -> str:
    """Return a clause without what surrounds the request: politeness, outer punctuation, runs of spaces."""
    clause = " ".join(clause.split())
    while (shorter := _OPENING.sub("", _CLOSING.sub("", clause))) != clause:
        clause = shorter
    return clause


class _Quoted:
    """The quoted texts of a prompt, each hidden behind one word of private-use characters."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def hide(self, prompt: str) -> str:
        prompt = re.sub("[\ue000\ue001]", "", prompt)
        if call := _TOOL_JSON.search(prompt):
            try:
                _, end = json.JSONDecoder().raw_decode(prompt, call.end())
            except (ValueError, RecursionError):
                pass
            else:
                word = self._word(prompt[call.end() : end])
                return self.hide_quotes(prompt[: call.end()]) + word + " " + self.hide(prompt[end:])
        return self.hide_quotes(prompt)

    def hide_quotes(self, prompt: str) -> str:
        return _QUOTES.sub(lambda match: self._word(match[match.lastindex or 0]), prompt)

    def plain(self, word: str) -> str:
        """Return a word of a rule as it was meant: without its quotes."""
        return self._show(word, "{}")

    def restored(self, text: str) -> str:
        """Return a piece of the prompt as a person may be shown it."""
        return self._show(text, '"{}"')

    def _show(self, text: str, form: str) -> str:
        return _WORD.sub(lambda match: form.format(self._texts[int(match[1])]), text)

    def _word(self, text: str) -> str:
        self._texts.append(text)
        return f"\ue000{len(self._texts) - 1}\ue001"


_WORD = re.compile("\ue000(\\d+)\ue001")
_TOOL_JSON = re.compile(r"/tool\s+[\w.-]+\s*(?=\{)")
_QUOTES = re.compile(r"""```\n?(.*?)```|"([^"]*)"|“([^”]*)”|`([^`]+)`|(?<!\w)'([^']*)'(?!\w)|‘([^’]*)’""", re.DOTALL)
_THEN = re.compile(r"\s*[;\n]\s*|[.?!]\s+|,?\s+(?:and\s+)?(?:then|after that|finally),?\s+", re.IGNORECASE)
_AND = re.compile(r",?\s+and\s+|,\s+|\s+&\s+", re.IGNORECASE)
_OPENING = re.compile(
    r"^(?:please|kindly|just|now|also|then|and|hey|hi|hello|okay|ok|next|first,|finally|(?:can|could|would|will) you"
    r"|i(?:'d| would) like (?:you )?to|i (?:want|need) (?:you )?to|let's|let us|go ahead and)(?:[ ,!]+|$)",
    re.IGNORECASE,
)
_CLOSING = re.compile(r"(?<=[^\s.])[.!?,:]+$|(?:^|[ ,]+)(?:please|for me|thanks|thank you)$", re.IGNORECASE)

# --- what a rule builds ---

Words = dict[str, str]
_ABOUT_A_FILE = frozenset({"files.read", "files.write", "files.edit"})
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _number(word: str) -> int:
    return _NUMBERS.index(word.lower()) + 1 if word.lower() in _NUMBERS else int(word or FIRST_LINES)


def _list(words: Words) -> Step:
    path = words.get("path") or "."
    where = "this folder" if path == "." else path
    return Step("files.list", {"path": path}, f"Files in {where}:", f"list the files in {where}")


def _read(path: str, **lines: int) -> Step:
    """Return the reading of a file, or of the file that the steps before are about, where `path` is empty."""
    what = path or "a file"
    title = f"{path}:"
    if lines:
        start, most = lines.get("start_line", 1), lines["max_lines"]
        part = f"the first {most} lines" if start == 1 else f"lines {start} to {start + most - 1}"
        what = f"{part} of {what}"
        title = f"{what[0].upper()}{what[1:]}:"
    return Step("files.read", {"path": path, **lines}, title, f"read {what}", refers=not path)


def _read_whole(words: Words) -> Step:
    return _read(words.get("path", ""))


def _read_first(words: Words) -> Step:
    return _read(words.get("path", ""), max_lines=max(1, _number(words["count"])))


def _read_range(words: Words) -> Step:
    first, last = max(1, int(words["first"])), int(words["last"])
    return _read(words.get("path", ""), start_line=first, max_lines=max(1, last - first + 1))


def _what_is_in(words: Words) -> Step:
    return _read_whole(words) if "." in words["path"].strip("./") else _list(words)


def _search(words: Words) -> Step:
    text, path, glob = words.get("text", ""), words.get("path") or ".", words.get("glob", "")
    if "*" in path:
        path, glob = ".", path
    what = f"{text!r} in {glob}" if text and glob else repr(text) if text else glob
    where = "this folder" if path == "." else path
    arguments = {"pattern": text, "path": path} | ({"glob": glob} if glob else {})
    return Step("files.search", arguments, f"Found for {what} in {where}:", f"search for {what} in {where}")


def _now(_: Words) -> Step:
    return Step("clock.now", {}, "The time:", "tell the time")


def _write(words: Words) -> Step:
    path, text = words["path"], words.get("text", "")
    if text and not text.endswith("\n"):
        text += "\n"
    if not text and path.endswith(".py"):
        text = HELLO_WORLD
    return Step("files.write", {"path": path, "text": text}, f"Wrote {path}:", f"write {path}")


def _edit(words: Words) -> Step:
    path, old, new = words["path"], words["old"], words["new"]
    doing = f"replace {old!r} with {new!r} in {path}"
    return Step("files.edit", {"path": path, "old": old, "new": new}, f"Edited {path}:", doing)


def _tool(words: Words) -> Step:
    arguments = json.loads(words["json"] or "{}")
    return Step(words["tool"], arguments, f"{words['tool']}:", f"call {words['tool']}")


# --- the table ---

_SHOW = r"(?:show|print|display|give|see|view)(?: me)?"
_HERE = (
    r"(?:here|(?:in |inside |of |from )?(?:this|the|my|our|the current|current) "
    r"(?:folder|directory|dir|workspace|project|repository|repo))"
)
_FILES = (
    r"(?:(?:all|of|the|my|our|what|any|which) )*"
    r"(?:files and (?:folders|directories)|files?|folders|directories|contents?|entries)"
)
_ASK = rf"(?:list|find|{_SHOW}|what are|which are|tell me)"
_QUOTED = "\ue000\\d+\ue001"
_PATH = r"(?:the )?(?:file |folder |directory )?(?P<path>[^\s,]+?)(?: file| folder| directory)?"
_FILE = (
    rf"(?:the )?(?:file )?(?P<path>{_QUOTED}|[^\s,]*[./][^\s,]*|readme|license|changelog|makefile|dockerfile)"
    r"(?: file)?"
)
_IT = r"(?:it|that|this|(?:that|this|the) file|its (?:text|contents?))"
_CONTENT = r"(?:the )?(?:(?:whole |full )?(?:contents?|text) of )?"
_TEXT = r"(?:the )?(?:text |words? |string |phrase |line |pattern )?(?P<text>.+?)"
# Unquoted words that describe a text instead of being it, as in "write a poem to FILE", are for a model.
_LITERAL = (
    r"(?:the (?:text|words?|string|phrase|line) )?"
    rf"(?P<text>{_QUOTED}|(?!(?:an?|the|some|me|my|your|this|that|it|its|all|every|what|how)\b).+)"
)
_IN = r"(?:in|inside|within|under|across|through|from)"
_PLACE = rf"(?: (?:{_HERE}|{_IN} (?:all (?:the )?|the )?files(?: {_HERE})?|everywhere|{_IN} {_PATH}))?"
_COUNT = rf"(?:the )?(?:first|top)(?: (?P<count>\d{{1,6}}|{'|'.join(_NUMBERS)}))?(?: few)? lines?"
_TO = r"(?:to|into|in|as)(?: an?| the)?(?: new)?(?: file)?(?: called| named)?"
_WITH = r"(?:with|containing|that (?:contains|says)|saying)(?: the (?:text|contents?|words?))?:?"
_NEW = r"(?:create|make|write|add|touch)(?: me)?(?: an?| the)?(?: new)?(?: empty| small| simple)?"
_REPLACE = r"(?:replace|change|substitute) (?P<old>.+) (?:with|by|to|into)"
_CONTAIN = r"(?:containing|contain|that contain|with|mentioning|mention|that mention)"

_TABLE: Sequence[tuple[str, Callable[[Words], Step]]] = (
    (rf"/tool (?P<tool>[\w.-]+)(?: ?(?P<json>{_QUOTED}))?", _tool),
    (
        r"(?:what(?:'s| is)?|tell me|show me|give me) (?:the )?(?:current )?(?:time|date|day)"
        r"(?: is it| it is)?(?: now| right now| today| here)*",
        _now,
    ),
    # parts of a file
    (rf"(?:{_SHOW}|read|get) {_COUNT}(?: of {_IT})?", _read_first),
    (rf"(?:{_SHOW}|read|get) {_COUNT} (?:of|from|in) {_PATH}", _read_first),
    (rf"(?:{_SHOW}|read|get) {_PATH},? {_COUNT}", _read_first),
    (rf"head(?: -n ?(?P<count>\d{{1,6}}))? {_PATH}", _read_first),
    (
        rf"(?:{_SHOW}|read|get) lines (?P<first>\d{{1,9}}) ?(?:to|-|through|until) ?(?P<last>\d{{1,9}})"
        rf" (?:of|from|in) (?:{_IT}|{_PATH})",
        _read_range,
    ),
    # files that hold a text, or have a name
    (rf"(?:{_ASK} |search for |which |what )?{_FILES} {_CONTAIN} {_TEXT}{_PLACE}", _search),
    (rf"(?:search|look|grep|scan|find) (?:{_HERE}|(?:in |through )?(?P<path>[^\s,]+)) for {_TEXT}", _search),
    (rf"{_ASK}(?: all)?(?: the)? (?P<glob>[^\s,]*\*[^\s,]*)(?: files?)?{_PLACE}", _search),
    (rf"find (?:all )?(?:the |an? )?files? (?:called |named )?(?P<glob>{_QUOTED}|[^\s,]*\.[^\s,]*){_PLACE}", _search),
    (rf"(?:search|look|grep|scan) for {_TEXT}{_PLACE}", _search),
    (rf"find (?!(?:all |the |an? )*files?\b){_TEXT}{_PLACE}", _search),
    (rf"(?:search|grep) (?P<text>{_QUOTED}){_PLACE}", _search),
    (r"grep (?P<text>\S+)(?: (?P<path>\S+))?", _search),
    # a file whole
    (rf"(?:{_SHOW}|read|open|cat|output) {_IT}", _read_whole),
    (rf"(?:{_SHOW}|what is|what's|output) {_CONTENT}{_FILE}", _read_whole),
    (rf"(?:read|open|cat) (?:me )?{_CONTENT}{_PATH}", _read_whole),
    (rf"what does {_FILE} (?:say|contain)", _read_whole),
    # what is in a folder
    (rf"(?:{_ASK} )?{_FILES}(?: (?:are|do (?:i|we|you) have|that are))?(?: there)?(?: {_HERE})?", _list),
    (rf"(?:{_ASK} )?{_FILES}(?: are)?(?: there)? (?:of|{_IN}) {_PATH}", _list),
    (rf"(?:what(?:'s| is)(?: there)?|{_SHOW} what(?:'s| is)|list|look) {_HERE}", _list),
    (rf"what(?:'s| is) {_IN} {_PATH}", _what_is_in),
    (r"(?:ls|dir|list)", _list),
    (rf"(?:ls|dir|list) {_PATH}", _list),
    # changes
    (rf"{_REPLACE} (?P<new>.+) {_IN} {_FILE}", _edit),
    (rf"{_IN} {_FILE},? {_REPLACE} (?P<new>.+)", _edit),
    (rf"{_NEW}(?: python)? hello[ -]?world (?:program|script) {_TO} (?P<path>[^\s,]*\.py)", _write),
    (rf"{_NEW}(?: file)?(?: called| named)? {_FILE}(?: {_WITH} {_LITERAL})?", _write),
    (rf"(?:write|save) to {_FILE}(?: the text|:) {_LITERAL}", _write),
    (rf"(?:write|save|put|store) {_LITERAL} {_TO} {_FILE}", _write),
)
_RULES = tuple((re.compile(pattern, re.IGNORECASE), build) for pattern, build in _TABLE)
