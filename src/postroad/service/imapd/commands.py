"""Which coroutine answers which command."""

from __future__ import annotations

from typing import Any, cast

from postroad.protocol.imap import acl as acls
from postroad.protocol.imap import (
    commands,
    context,
    fetch,
    lists,
    mailboxes,
    messages,
    multisearch,
    search,
    sort,
    thread,
)
from postroad.protocol.imap import metadata as annotating
from postroad.protocol.imap import notify as notifying
from postroad.protocol.imap import quota as quotas
from postroad.protocol.imap import urlauth as protocol_urlauth
from postroad.protocol.imap.append import Append, Replace
from postroad.protocol.imap.commands import Command
from postroad.service.imapd import (
    acl,
    append,
    authenticate,
    capability,
    compress,
    copy,
    enable,
    expunge,
    ident,
    idle,
    language,
    login,
    logout,
    metadata,
    namespace,
    noop,
    notify,
    quota,
    replace,
    select,
    starttls,
    status,
    store,
    unauthenticate,
    urlauth,
    urlfetch,
)
from postroad.service.imapd import context as contexts
from postroad.service.imapd import fetch as fetching
from postroad.service.imapd import lists as listing
from postroad.service.imapd import mailboxes as naming
from postroad.service.imapd import multisearch as multisearching
from postroad.service.imapd import search as searching
from postroad.service.imapd import sort as sorting
from postroad.service.imapd import thread as threading
from postroad.service.imapd.session import Handler

# Each takes its own kind of command: the table is what pairs them.
_TABLE: dict[type[Command], Any] = {
    commands.Capability: capability.capability,
    commands.Noop: noop.noop,
    commands.Check: noop.noop,
    commands.Logout: logout.logout,
    commands.Id: ident.ident,
    commands.StartTLS: starttls.starttls,
    commands.Login: login.login,
    commands.Authenticate: authenticate.authenticate,
    commands.Enable: enable.enable,
    notifying.Notify: notify.notify,
    commands.Language: language.language,
    commands.Compress: compress.compress,
    commands.Unauthenticate: unauthenticate.unauthenticate,
    commands.Namespace: namespace.namespace,
    commands.Idle: idle.idle,
    commands.Close: select.close,
    commands.Unselect: select.unselect,
    commands.Expunge: expunge.expunge,
    mailboxes.Select: select.select,
    mailboxes.Create: naming.create,
    mailboxes.Delete: naming.delete,
    mailboxes.Rename: naming.rename,
    mailboxes.Subscribe: naming.subscribe,
    mailboxes.Status: status.status,
    acls.SetACL: acl.setacl,
    acls.DeleteACL: acl.deleteacl,
    acls.GetACL: acl.getacl,
    acls.ListRights: acl.listrights,
    acls.MyRights: acl.myrights,
    annotating.GetMetadata: metadata.getmetadata,
    annotating.SetMetadata: metadata.setmetadata,
    quotas.GetQuota: quota.getquota,
    quotas.GetQuotaRoot: quota.getquotaroot,
    quotas.SetQuota: quota.setquota,
    lists.List: listing.list_,
    lists.LSub: listing.lsub,
    Append: append.append,
    Replace: replace.replace,
    protocol_urlauth.GenURLAuth: urlauth.genurlauth,
    protocol_urlauth.ResetKey: urlauth.resetkey,
    protocol_urlauth.URLFetch: urlfetch.urlfetch,
    search.Search: searching.search,
    multisearch.ESearch: multisearching.esearch,
    sort.Sort: sorting.sort,
    thread.Thread: threading.thread,
    context.CancelUpdate: contexts.cancelupdate,
    fetch.Fetch: fetching.fetch,
    messages.Store: store.store,
    messages.Copy: copy.copy,
}

HANDLERS = cast(dict[type[Command], Handler], _TABLE)
