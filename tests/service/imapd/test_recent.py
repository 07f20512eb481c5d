"""Marks of \\Recent: of one process, and of several that map one file."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from postroad.mail.errors import Unavailable
from postroad.service.imapd.recent import MAILBOXES_MAX, Marks, OwnMarks, SharedMarks

KEY = (1 << 40, 3, 1795435201)


@pytest.fixture(params=["own", "shared"])
def marks(request: pytest.FixtureRequest, tmp_path: Path) -> Marks:
    return OwnMarks() if request.param == "own" else SharedMarks(tmp_path / "run" / "recent")


def test_what_was_told_first_stays_the_first_ones(marks: Marks) -> None:
    assert marks.told(KEY) == 0
    assert marks.claim(KEY, 5) == 0
    assert marks.claim(KEY, 5) == 5
    assert marks.claim(KEY, 3) == 5
    assert marks.told(KEY) == 5
    assert marks.claim(KEY, 9) == 5
    assert marks.told((*KEY[:2], KEY[2] + 1)) == 0, "a mailbox of the same name, made anew"


def test_the_marks_of_one_process_are_bounded() -> None:
    marks = OwnMarks()
    for number in range(MAILBOXES_MAX + 1):
        marks.claim((1, number, 1), 7)
    assert marks.told((1, 0, 1)) == 0 and marks.told((1, MAILBOXES_MAX, 1)) == 7


def _claims(path: Path, answers: multiprocessing.Queue[list[int]]) -> None:
    marks = SharedMarks(path)
    answers.put([uid for uid in range(1, 2001) if marks.claim(KEY, uid) < uid])


def test_each_message_is_new_to_one_of_several_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[list[int]] = context.Queue()
    path = tmp_path / "recent"
    processes = [context.Process(target=_claims, args=(path, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    claimed = [uid for _ in processes for uid in answers.get(timeout=20)]
    for process in processes:
        process.join(10)
    assert sorted(claimed) == sorted(set(claimed)), "claimed twice"
    assert max(claimed) == 2000


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"")
    with pytest.raises(Unavailable):
        SharedMarks(tmp_path / "run" / "recent")
