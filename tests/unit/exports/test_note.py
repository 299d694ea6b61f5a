"""Signed notes, against the examples of Go's ``golang.org/x/mod/sumdb/note``, whose signatures are deterministic."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rexis.exports.note import NoteKey, open_note, sign_note
from rexis.protocol.errors import MalformedError, RexisError, SignatureError

# From the documentation of sumdb/note: key pair, text and note.
NAME = "PeterNeumann"
KEY = NoteKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
PRIVATE = Ed25519PrivateKey.from_private_bytes(b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:])
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
NOTE = f"{TEXT}\n— {NAME} {SIGNATURE}\n"
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))


def test_the_note_of_the_field_is_made_and_read() -> None:
    assert sign_note(TEXT, NAME, PRIVATE) == NOTE
    assert open_note(NOTE, KEY) == TEXT
    assert NoteKey.parse(str(KEY)) == KEY == NoteKey.of(NAME, PRIVATE)


def test_signatures_of_other_keys_are_passed_over() -> None:
    foreign = sign_note(TEXT, "witness", OTHER).removeprefix(TEXT + "\n")
    assert open_note(NOTE + foreign, KEY) == TEXT
    assert open_note(TEXT + "\n" + foreign + NOTE.removeprefix(TEXT + "\n"), KEY) == TEXT
    same_name = sign_note(TEXT, NAME, OTHER).removeprefix(TEXT + "\n")
    assert open_note(NOTE + same_name, KEY) == TEXT


def test_a_text_with_an_empty_line_is_kept_whole() -> None:
    text = "a\n\nb\n"
    assert open_note(sign_note(text, NAME, PRIVATE), KEY) == text


@pytest.mark.parametrize(
    "note",
    [
        NOTE.replace("cryptography", "Cryptography"),
        sign_note(TEXT, "witness", OTHER),
        sign_note(TEXT, NAME, OTHER),
        NOTE + f"— {NAME} {b64encode(KEY.id + bytes(64)).decode()}\n",
    ],
    ids=("text-changed", "another-name", "another-key", "second-signature-wrong"),
)
def test_what_the_key_did_not_sign_is_refused(note: str) -> None:
    with pytest.raises(SignatureError):
        open_note(note, KEY)


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        NOTE[:-1],
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("— ", "- "),
        NOTE.replace(f"{NAME} {SIGNATURE}", SIGNATURE),
        NOTE.replace(SIGNATURE, SIGNATURE[:4]),
        NOTE.replace(SIGNATURE, "?"),
        "\r" + NOTE,
        "x" * (1 << 17) + NOTE,
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(MalformedError):
        open_note(note, KEY)


@pytest.mark.parametrize(
    "text",
    ["", "a+b", str(KEY).replace("c74f20a3", "c74f20a4"), str(KEY)[:-4], f"a b+{KEY.id.hex()}+{str(KEY)[-44:]}"],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        NoteKey.parse(text)


def test_names_and_texts_are_checked_before_signing() -> None:
    for name, text in (("two words", TEXT), ("a+b", TEXT), (NAME, "no newline")):
        with pytest.raises(RexisError):
            sign_note(text, name, PRIVATE)
