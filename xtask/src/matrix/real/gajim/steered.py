"""A plugin for Gajim: it does what the lines of JSON in `commands` beside it say, in their order, and prints what happens as
lines of JSON."""

import json
import os

from gi.repository import GLib
from nbxmpp import JID
from nbxmpp.namespaces import Namespace
from nbxmpp.structs import IBBData

import gajim
from gajim.common import app
from gajim.common import ged
from gajim.common.file_props import FilesProp
from gajim.common.jingle_ft import JingleFileTransfer
from gajim.plugins import GajimPlugin

ACCOUNT = "juliet"


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def mend():
    """Gajim 1.7.3 takes no offer: it forgets to say of what file a transfer is, and fails. Here it is a new one, which is the
    same whenever it asks for that again. And nbxmpp 4.2.2 opens and closes no stream in stanzas: it forgets two values."""
    IBBData.__new__.__defaults__ = (None, None, None)
    begin, new = JingleFileTransfer.__init__, FilesProp.getNewFileProp

    def one(account, sid):
        return FilesProp.getFileProp(account, sid) or new(account, sid)

    def begin_with_file(self, session, file_props=None, transport=None, senders=None):
        begin(self, session, file_props or one(ACCOUNT, session.sid), transport, senders)

    JingleFileTransfer.__init__, FilesProp.getNewFileProp = begin_with_file, one


class Steered(GajimPlugin):
    def init(self):
        self.done = 0
        self.answer = "ignore"
        self.into = None
        handlers = {
            self.on_signed_in: ["signed-in"],
            self.on_offer: ["file-request-received"],
            self.on_completed: ["file-completed"],
            self.on_progress: ["file-progress"],
            self.on_error: ["file-error", "file-hash-error", "file-send-error", "file-request-error"],
            self.on_ended: ["jingle-disconnected-received", "jingle-ft-cancelled-received", "jingle-error-received"],
        }
        self.events_handlers = {
            name: (ged.POSTCORE, handler) for handler, names in handlers.items() for name in names
        }

    def activate(self):
        mend()
        GLib.timeout_add(50, self.look)

    def look(self):
        """Does what has come; what cannot be done yet is tried again, before what stands behind it."""
        try:
            with open(self.local_file_path("commands"), encoding="utf-8") as file:
                lines = file.read().split("\n")[:-1]
        except FileNotFoundError:
            return True
        while self.done < len(lines):
            command = json.loads(lines[self.done])
            if getattr(self, "do_" + command.pop("do"))(**command) is False:
                break
            self.done += 1
        return True

    def client(self):
        return app.get_client(ACCOUNT)

    def window(self):
        return app.interface.instances["file_transfers"]

    # What can be asked of it.

    def do_answer(self, answer, into=None):
        self.answer, self.into = answer, into

    def do_set(self, name, value):
        app.settings.set_account_setting(ACCOUNT, name, value)

    def do_send(self, to, path):
        contacts = self.client().get_module("Contacts")
        jid = JID.from_string(to)
        device = contacts.get_contact(jid)
        # Its presence, and what it can, are asked for and may not be there yet.
        if not device.is_available or not device.supports(Namespace.JINGLE_FILE_TRANSFER_5):
            return False
        went = self.window().send_file(ACCOUNT, contacts.get_contact(jid.bare), jid, path)
        tell("offered", name=os.path.basename(path), went=went)
        return True

    def do_cancel(self, name):
        for props in FilesProp.getAllFileProp():
            if props.name == name and not props.completed and not props.stopped:
                self.window().cancel_transfer(props)
        tell("cancelled", name=name)

    # What happens.

    def on_signed_in(self, event):
        tell("online", jid=str(event.conn.get_own_jid()), version=gajim.__version__)

    def on_offer(self, event):
        props = event.file_props
        tell("offer", name=props.name, size=props.size, sid=props.sid)
        bytestream = self.client().get_module("Bytestream")
        if self.answer == "decline":
            bytestream.send_file_rejection(props)
        if self.answer == "accept":
            props.file_name = os.path.join(self.into, props.name)
            props.type_ = "r"
            # Its window of transfers shows no empty ones.
            if props.size:
                contact = self.client().get_module("Contacts").get_contact(event.jid)
                self.window().add_transfer(ACCOUNT, contact, props)
            bytestream.send_file_approval(props)

    def on_completed(self, event):
        props = event.file_props
        tell("completed", name=props.name, sid=props.sid, hash=props.hash_, algo=props.algo, bytes=props.received_len)

    def on_progress(self, event):
        tell("progress", name=event.file_props.name, sid=event.file_props.sid, bytes=event.file_props.received_len)

    def on_error(self, event):
        props = event.file_props
        tell("error", kind=event.name, name=props.name, sid=props.sid, code=props.error)

    def on_ended(self, event):
        tell("ended", kind=event.name, sid=event.sid, reason=event.reason)
