"""Access lists, public accounts, and annotations, in the store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.database.contract import Notice, Topic
from postroad.directory.operations import AddAccount, AddDomain, RemoveAccount
from postroad.mail import limits
from postroad.mail.errors import Fault, StateError
from postroad.mail.rights import (
    ALL,
    ALL_RIGHTS,
    effective,
    flags_allowed,
    order_rights,
    parse_rights,
    render_rights,
)
from postroad.store.metadata import EVERYBODY, SITE, Annotate, noted
from postroad.store.operations import CreateMailbox, DeleteMailbox, RenameMailbox
from postroad.store.sharing import (
    ANYONE,
    SetAdministrator,
    SetPublic,
    SetRights,
    UnsetPublic,
)
from postroad.store.values import FlagMode
from support.state import BOB, FORMS, INBOX, NOW, State, opened

ANN = 78
STRANGER = 79
"""Of another tenant."""


async def people(state: State) -> None:
    await state.database.submit(AddDomain(name="else.example", tenant="else", keys=(), now=NOW))
    for number, address in ((ANN, "ann@two.example"), (STRANGER, "eve@else.example")):
        await state.database.submit(
            AddAccount(account=number, address=address, argon2="a", scram_sha_256="s", now=NOW)
        )


def give(rights: str, grantee: int = ANN, mailbox: int = INBOX, **more: object) -> SetRights:
    return SetRights(account=BOB, mailbox=mailbox, grantee=grantee, rights=rights, **more)  # type: ignore[arg-type]  # fields of SetRights


async def refused(state: State, operation: object) -> Fault:
    with pytest.raises(StateError) as caught:
        await state.database.submit(operation)  # type: ignore[arg-type]  # an operation
    return caught.value.fault


# -- letters ------------------------------------------------------------------------------------


def test_letters() -> None:
    assert parse_rights("lrcd") == frozenset("lrkxet")
    assert render_rights("rl") == "lr" and render_rights("k") == "kc"
    assert render_rights("e") == "ed" and render_rights(ALL) == "lrswipkxteacd"
    for wrong in ("q", "L", "0", "l r", "é"):
        with pytest.raises(ValueError, match="no right"):
            parse_rights(wrong)
    assert effective([(False, "lr"), (True, "r"), (False, "rs")]) == frozenset("ls")
    assert flags_allowed("") == 0 and flags_allowed("stw") == 31


@given(st.text(alphabet=ALL + "cd"))
def test_what_is_rendered_is_read_again(text: str) -> None:
    rights = parse_rights(text)
    told = parse_rights(render_rights(rights).replace("c", "").replace("d", ""))
    assert told == rights and frozenset(order_rights(rights)) == rights


# -- lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_who_may_what(form: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(form, tmp_path) as state:
            await people(state)
            store = state.store
            assert store.shared(ANN) == [] and store.rights(BOB, INBOX, ANN) == frozenset()
            assert store.rights(BOB, INBOX, BOB) == ALL_RIGHTS
            await state.database.submit(give("lr"))
            await state.database.submit(give("ws", mode=int(FlagMode.ADD)))
            await state.database.submit(give("r", mode=int(FlagMode.REMOVE)))
            assert store.rights(BOB, INBOX, ANN) == frozenset("lsw")
            await state.database.submit(give("lrp", ANYONE))
            await state.database.submit(give("w", ANYONE, negative=True))
            assert store.rights(BOB, INBOX, ANN) == frozenset("lrsp")
            assert store.may_post(BOB, INBOX, ANN)
            assert not store.may_post(BOB, INBOX, STRANGER)
            [shared] = store.shared(ANN)
            assert shared.mailbox.name == "INBOX" and shared.owner.address == "bob@two.example"
            assert shared.rights == frozenset("lrsp")
            assert store.shared(STRANGER) == [] and store.shared(BOB) == []
            told = [(grant.address, grant.negative, grant.rights) for grant in
                    store.access(BOB, INBOX)]  # fmt: skip
            assert told == [
                ("", False, frozenset("lrp")),
                ("", True, frozenset("w")),
                ("ann@two.example", False, frozenset("lsw")),
            ]
            await state.database.submit(give("", ANN), give("", ANYONE))
            await state.database.submit(give("", ANYONE, negative=True))
            assert store.access(BOB, INBOX) == []

    asyncio.run(scenario())


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            await people(state)
            assert await refused(state, give("lr", STRANGER)) is Fault.NONEXISTENT
            assert await refused(state, give("lr", 12345)) is Fault.NONEXISTENT
            assert await refused(state, give("lr", mailbox=99)) is Fault.NONEXISTENT
            assert await refused(state, give("lz")) is Fault.CANNOT
            assert await refused(state, give("lr", mode=9)) is Fault.CANNOT
            assert await refused(state, give("lr", BOB)) is Fault.CANNOT
            assert await refused(state, give("l", BOB, negative=True)) is Fault.CANNOT
            await state.database.submit(give("a", BOB, mode=int(FlagMode.ADD)))
            await state.database.submit(give(ALL, BOB))
            assert state.store.access(BOB, INBOX) == []
            monkeypatch.setattr(limits, "ACCESS_ENTRIES_PER_MAILBOX_MAX", 1)
            await state.database.submit(give("lr"))
            assert await refused(state, give("lr", ANYONE)) is Fault.LIMIT

    asyncio.run(scenario())


def test_lists_are_inherited_kept_and_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            await people(state)
            [top] = await state.database.submit(CreateMailbox(account=BOB, name="top", now=NOW))
            await state.database.submit(give("lrk", mailbox=top.mailbox))
            [low] = await state.database.submit(CreateMailbox(account=BOB, name="top/a/b", now=NOW))
            assert state.store.rights(BOB, low.mailbox, ANN) == frozenset("lrk")
            await state.database.submit(
                RenameMailbox(account=BOB, name="top/a/b", to="away", now=NOW)
            )
            assert state.store.rights(BOB, low.mailbox, ANN) == frozenset("lrk")
            await state.database.submit(DeleteMailbox(account=BOB, name="away", now=NOW))
            assert state.store.rights(BOB, low.mailbox, ANN) == frozenset()
            await state.database.submit(RemoveAccount(account=ANN))
            assert state.store.access(BOB, top.mailbox) == []

    asyncio.run(scenario())


def test_notices_reach_owner_and_grantee(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            await people(state)
            heard: list[Notice] = []
            for account in (BOB, ANN, EVERYBODY):
                state.database.subscribe(account, heard.append)
            [modseq] = await state.database.submit(give("lr"))
            assert heard == [
                Notice(Topic.RIGHTS, BOB, INBOX, modseq),
                Notice(Topic.MAILBOXES, ANN),
            ]
            heard.clear()
            assert await state.database.submit(give("lr")) == [modseq]
            assert heard == [], "nothing was changed"
            entries = [("/shared/comment", b"x"), ("/private/comment", b"y")]
            await state.database.submit(
                Annotate(account=BOB, mailbox=INBOX, reader=ANN, entries=entries)
            )
            told = [(notice.account, noted(notice)) for notice in heard]
            assert [(to, what.owner, what.mailbox, what.entries) for to, what in told] == [
                (BOB, BOB, INBOX, ("/shared/comment",)),
                (ANN, BOB, INBOX, ("/private/comment",)),
            ]
            heard.clear()
            await state.database.submit(
                Annotate(account=SITE, mailbox=0, reader=SITE, entries=[("/shared/comment", b"x")])
            )
            assert [notice.account for notice in heard] == [EVERYBODY]

    asyncio.run(scenario())


# -- public accounts ----------------------------------------------------------------------------


def test_public_accounts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            await people(state)
            store = state.store
            await state.database.submit(give("lrs", ANN))
            await state.database.submit(SetPublic(account=BOB, label="Team", rights="lrp"))
            assert {shared.owner.label for shared in store.shared(ANN)} == {"Team"}
            assert len(store.shared(ANN)) == len(store.mailboxes(BOB))
            assert store.rights(BOB, INBOX, ANN) == frozenset("lrsp")
            assert store.shared(STRANGER) == []
            owner = store.owner_by_label(ANN, "Team")
            assert owner is not None and owner.account == BOB
            assert store.owner_by_label(STRANGER, "Team") is None
            [made] = await state.database.submit(CreateMailbox(account=BOB, name="New", now=NOW))
            assert store.rights(BOB, made.mailbox, ANN) == frozenset("lrp")
            taken = SetPublic(account=ANN, label="Team", rights="lr")
            assert await refused(state, taken) is Fault.ALREADYEXISTS
            assert await refused(state, SetPublic(account=ANN, label="a/b", rights="lr")) is (
                Fault.CANNOT
            )
            # the same label in another tenant is another's
            await state.database.submit(SetPublic(account=STRANGER, label="Team", rights="lr"))
            assert [public.owner.account for public in store.public_accounts()] == [BOB, STRANGER]
            await state.database.submit(UnsetPublic(account=BOB))
            assert store.rights(BOB, made.mailbox, ANN) == frozenset()
            assert store.rights(BOB, INBOX, ANN) == frozenset("lrs")
            assert await refused(state, UnsetPublic(account=BOB)) is Fault.NONEXISTENT

    asyncio.run(scenario())


def test_administrators(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            assert not state.store.is_administrator(BOB)
            await state.database.submit(SetAdministrator(account=BOB, administrator=True))
            assert state.store.is_administrator(BOB)
            assert state.store.administrators() == ["bob@two.example"]
            await state.database.submit(SetAdministrator(account=BOB, administrator=False))
            assert not state.store.is_administrator(BOB)
            unknown = SetAdministrator(account=5, administrator=True)
            assert await refused(state, unknown) is Fault.NONEXISTENT

    asyncio.run(scenario())


# -- annotations --------------------------------------------------------------------------------


def note(*entries: tuple[str, bytes | None], reader: int = BOB, mailbox: int = INBOX) -> Annotate:
    return Annotate(account=BOB, mailbox=mailbox, reader=reader, entries=list(entries))


@pytest.mark.parametrize("form", FORMS)
def test_annotations(form: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(form, tmp_path) as state:
            await people(state)
            read = state.store.annotations
            await state.database.submit(
                note(("/shared/comment", b"all \0"), ("/private/comment", b"bob's"))
            )
            await state.database.submit(note(("/private/comment", b"ann's"), reader=ANN))
            assert read(BOB, INBOX, BOB) == {
                "/shared/comment": b"all \0", "/private/comment": b"bob's",
            }  # fmt: skip
            assert read(BOB, INBOX, ANN)["/private/comment"] == b"ann's"
            await state.database.submit(note(("/shared/comment", None)))
            assert read(BOB, INBOX, BOB) == {"/private/comment": b"bob's"}
            await state.database.submit(RemoveAccount(account=ANN))
            assert read(BOB, INBOX, ANN) == {}
            gone = note(("/shared/comment", b"x"), mailbox=99)
            assert await refused(state, gone) is Fault.NONEXISTENT

    asyncio.run(scenario())


def test_annotations_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            monkeypatch.setattr(limits, "ANNOTATIONS_PER_MAILBOX_MAX", 2)
            long = note(("/shared/x", bytes(limits.ANNOTATION_OCTETS_MAX + 1)))
            assert await refused(state, long) is Fault.LIMIT
            await state.database.submit(note(("/shared/a", b"1"), ("/private/a", b"1")))
            await state.database.submit(note(("/shared/b", b"1")))
            more = note(("/shared/a", b"changed"), ("/shared/c", b"1"))
            assert await refused(state, more) is Fault.LIMIT
            assert state.store.annotations(BOB, INBOX, BOB)["/shared/a"] == b"1", "all or none"
            await state.database.submit(note(("/shared/a", b"2"), ("/private/b", b"1")))
            monkeypatch.setattr(limits, "ANNOTATION_OCTETS_PER_ACCOUNT_MAX", 100)
            wide = note(("/shared/a", bytes(101)))
            assert await refused(state, wide) is Fault.LIMIT

    asyncio.run(scenario())


def test_a_use_moves(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened("local", tmp_path) as state:
            await people(state)
            store = state.store
            drafts, sent = store.mailbox(BOB, "Drafts"), store.mailbox(BOB, "Sent")
            assert drafts is not None and sent is not None
            entry = ("/private/specialuse", b"\\Drafts")
            [done] = await state.database.submit(note(entry, mailbox=sent.mailbox))
            assert done.lost == "Drafts"
            uses = {item.name: item.special_use for item in store.mailboxes(BOB)}
            assert uses["Drafts"] == "" and uses["Sent"] == "\\Drafts"
            assert await refused(state, note(entry)) is Fault.CANNOT
            other = note(entry, reader=ANN, mailbox=drafts.mailbox)
            assert await refused(state, other) is Fault.CANNOT

    asyncio.run(scenario())
