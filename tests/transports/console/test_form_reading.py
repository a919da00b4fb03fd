"""Forms are read as browsers write them, and in time, whatever they are."""

from time import process_time
from urllib.parse import urlencode

import pytest

from palyra_trio.core.errors import TooLarge
from palyra_trio.transports.console.form_reading import AT_ONCE_BYTES, FIELDS, FormReader
from palyra_trio.transports.console.site import BODY_BYTES


@pytest.mark.parametrize("length", [1, AT_ONCE_BYTES])
async def test_fields_are_read_as_they_were_written_and_the_first_of_a_name_counts(length: int) -> None:
    said = {"text": "ä & b=c+d\n" * length, "blank": "", "a b": "%41"}
    assert await FormReader().read(urlencode([*said.items(), ("text", "again")]).encode()) == said


async def test_what_is_no_text_is_none_either_way() -> None:
    assert await FormReader().read(b"a=\xff&b=%ff&&c") == {"a": "\ufffd", "b": "\ufffd", "c": ""}
    assert await FormReader().read(b"") == {}


async def test_too_many_fields_are_refused_before_they_are_read() -> None:
    assert len(await FormReader().read(b"&".join(b"%d=" % number for number in range(FIELDS)))) == FIELDS
    began_s = process_time()
    with pytest.raises(TooLarge):
        await FormReader().read(b"a&" * (BODY_BYTES // 2))
    assert process_time() - began_s < 0.5
