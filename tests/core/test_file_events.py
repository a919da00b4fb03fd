from palyra_trio.core.codec import decode, encode
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.tape import FileChange


def test_what_a_program_did_to_files_comes_back_from_the_tape_as_it_was() -> None:
    changes = FileChange("a", None, "aa", 0, 0o120777), FileChange("b", "", None, 0o100644, 0, kept=False)
    event = FilesChanged("call", changes, missed="3 more", discarded=0)
    assert decode(FilesChanged.kind, encode(event)) == event


def test_a_change_of_an_older_tape_tells_no_modes_and_has_its_blobs() -> None:
    body = b'{"call_id":"c","changes":[{"after":"aa","before":null,"path":"a"}],"discarded":0,"missed":"","v":1}'
    event = decode(FilesChanged.kind, body)
    assert isinstance(event, FilesChanged)
    assert event.changes == (FileChange("a", None, "aa", 0, 0, kept=True),)
