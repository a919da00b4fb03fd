"""A page as a tree, and updates applied to it as `console.js` applies them."""

from collections.abc import Iterator
from html.parser import HTMLParser

import attrs

VOID = {"input", "link", "meta", "br", "img", "path", "circle"}


@attrs.define(eq=False)
class Node:
    tag: str
    attributes: dict[str, str]
    children: "list[Node | str]" = attrs.Factory(list)
    parent: "Node | None" = None

    def nodes(self) -> "Iterator[Node]":
        for each in self.children:
            if isinstance(each, Node):
                yield each
                yield from each.nodes()

    def find(self, element: str) -> "Node | None":
        return next((each for each in (self, *self.nodes()) if each.attributes.get("id") == element), None)

    def append(self, child: "Node | str") -> None:
        if isinstance(child, Node):
            child.parent = self
            self.children.append(child)
        elif self.children and isinstance(self.children[-1], str):
            self.children[-1] += child
        else:
            self.children.append(child)

    def replace(self, fresh: "Node") -> None:
        assert self.parent is not None
        self.parent.children[self.parent.children.index(self)] = fresh
        fresh.parent = self.parent

    def html(self) -> str:
        inside = "".join(each.html() if isinstance(each, Node) else each for each in self.children)
        return f"<{self.tag} {sorted(self.attributes.items())}>{inside}</{self.tag}>"


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self.here = Node("", {})

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attributes})
        self.here.append(node)
        if tag not in VOID:
            self.here = node

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.here.tag == tag, f"<{self.here.tag}> is ended by </{tag}>"
            assert self.here.parent is not None
            self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.append(data)


def parse(html: str) -> Node:
    """Return a page, or a piece of one, as a tree. Fails for elements that are not closed in order."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert builder.here is builder.root, f"<{builder.here.tag}> is not closed"
    return builder.root


def apply(page: Node, update: str) -> None:
    """Put each element of an update in its place."""
    for fresh in [each for each in parse(update).children if isinstance(each, Node)]:
        grows = fresh.attributes.get("data-grows")
        old = page.find(grows or fresh.attributes["id"])
        if grows is not None:
            assert old is not None
            for child in fresh.children:
                old.append(child)
        elif old is not None:
            old.replace(fresh)
        else:
            into = page.find(fresh.attributes["data-into"])
            assert into is not None
            into.append(fresh)
