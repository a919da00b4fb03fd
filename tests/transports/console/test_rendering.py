"""What texts hold stays text: nothing runs, and nothing hides."""

import re
import time
from time import process_time

import pytest
from markupsafe import escape

from palyra_trio.core.text import visible
from palyra_trio.transports.console.rendering import (
    capital,
    clock,
    count,
    environment,
    lines,
    moment,
    number,
    prose,
    read_static,
    zone,
)

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<svg/onload=alert(1)>",
    "</textarea><script>alert(1)</script>",
    "{{ 7 * 7 }}{% import os %}",
    "`<b>`**<i>**\n```\n<script>alert(1)</script>\n```",
)


def test_every_value_is_escaped_in_text_and_in_attributes() -> None:
    template = environment(read_static()).from_string('<p title="{{ it }}">{{ it }}</p>')
    for payload in PAYLOADS:
        html = template.render(it=payload)
        assert html.count("<") == 2
        assert html.count('"') == 2
        assert "49" not in html


def test_characters_that_hide_or_turn_text_around_are_spelled_out() -> None:
    html = environment(read_static()).from_string("{{ it }}").render(it="a\u202eb\u200bc\x1b[2J\r\n")
    assert html == "a\\u202eb\\u200bc\\u001b[2J\\u000d\n"


def test_what_a_model_wrote_has_its_code_set_and_nothing_else() -> None:
    assert prose("**so** `a*b` <b>") == "<b>so</b> <code>a*b</code> &lt;b&gt;"
    assert prose("x\n```sh\nls `pwd` **a**\n```\ny") == "x<pre><code>ls `pwd` **a**</code></pre>y"
    assert prose("\nx\n\n```\n\na\n```\n\n\ny\n\nz\n") == "x<pre><code>\na</code></pre>y\n\nz\n"
    assert prose("\n\nx\n") == "\n\nx\n"
    assert prose("```\nnot closed") == "```\nnot closed"


@pytest.mark.parametrize("text", ["```a\n" * 8000, "```a\nx```b \n" * 8000, "```\n" + "``` x\n" * 8000, "`**" * 40_000])
def test_what_a_model_wrote_is_set_in_time_whatever_it_is(text: str) -> None:
    began_s = process_time()
    prose(text)
    assert process_time() - began_s < 1  # one thread serves all


@pytest.mark.parametrize(
    "text", ["世界" * 350_000, "\u202e" * 350_000, "é a" * 260_000, "```\n" * 260_000, "`a`" * 350_000]
)
def test_a_megabyte_of_anything_is_set_without_holding_up_others(text: str) -> None:
    began_s = process_time()
    escaped = escape(visible(text))
    alone_s = process_time() - began_s
    html = prose(text)
    assert process_time() - began_s < 3 * alone_s + 0.3  # no more than its beginning is looked at for markup
    plain = (
        html.replace("<pre><code>", "```\n")
        .replace("</code></pre>", "```\n")
        .replace("<code>", "`")
        .replace("</code>", "`")
    )
    assert plain == escaped  # and none of it is left out


@pytest.mark.parametrize("text", ["\n" * 262_144, "+\n-\n" * 65_536])
def test_a_diff_of_many_lines_is_set_without_holding_up_others(text: str) -> None:
    began_s = process_time()
    html = lines(text)
    assert process_time() - began_s < 0.5
    assert re.sub("<[^>]*>", "", html) == text


def test_the_lines_of_a_diff_are_told_apart_and_like_ones_are_one_element() -> None:
    assert lines("--- a\n+++ b\n@@ -1 +1 @@\n<x>\n-old\n+new\n+more\n") == (
        '<span class="hunk">--- a\n+++ b\n@@ -1 +1 @@\n</span>&lt;x&gt;\n<span class="del">-old\n</span>'
        '<span class="add">+new\n+more\n</span>\n'
    )


def test_no_payload_becomes_an_element_by_being_set_as_code() -> None:
    for payload in PAYLOADS:
        for element in ("<script", "<img", "<svg", "<i>", "onerror=alert(1)>"):
            assert element not in prose(payload)


def test_numbers_and_times_are_readable() -> None:
    assert number(1234567) == "1\u2009234\u2009567"
    assert moment(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert clock(0) == "1970-01-01 00:00:00 UTC"
    assert (count(1, "call"), count(1234, "call")) == ("1 call", "1\u2009234 calls")


@pytest.mark.parametrize(
    ("place", "said"),
    [("UTC", "UTC"), ("CET-1CEST,M3.5.0,M10.5.0/3", "CET (UTC+01:00)"), ("XST4:30", "XST (UTC-04:30)")],
)
def test_a_time_zone_is_said_by_its_name_and_how_far_it_is_from_utc(
    monkeypatch: pytest.MonkeyPatch, place: str, said: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", place)
        time.tzset()
        told = zone(0)
    time.tzset()
    assert told == said


def test_words_begin_with_a_capital_unless_they_begin_with_a_name_in_code() -> None:
    assert capital("there is no such page") == "There is no such page"
    assert capital("files.write needs a path") == "files.write needs a path"
    assert capital("") == ""


def test_static_files_have_types_and_an_address_that_changes_with_them() -> None:
    static = read_static()
    assert {"console.css", "console.js", "htmx.min.js", "htmx.LICENSE.txt", "icon.svg"} <= set(static)
    assert static["console.js"].media_type == "text/javascript; charset=utf-8"
    address = environment(static).from_string("{{ static('console.js') }}").render()
    assert address == f"/static/console.js?v={static['console.js'].digest}"
