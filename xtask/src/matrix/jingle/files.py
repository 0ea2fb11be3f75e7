"""Files by a data channel (XEP-0234 over XEP-0343): one in a session, whose bytes the engine makes or keeps."""

import base64
from xml.etree import ElementTree

from mapping import FILES, name, put

HASHES = "urn:xmpp:hashes:2"
LABEL = "filetransfer"


class File:
    def __init__(self, title, size, sha256=None):
        self.title, self.size, self.sha256 = title, size, sha256
        self.said = None

    @classmethod
    def of(cls, description):
        """What an offer says of it, to be said again in the answer."""
        file = description.find(name(FILES, "file"))
        made = cls(file.findtext(name(FILES, "name")), int(file.findtext(name(FILES, "size"))))
        made.hear_hash(file)
        made.said = description
        return made

    def hear_hash(self, file):
        """What its sender says, in the offer or afterwards (XEP-0234 §8.1)."""
        for each in file.findall(name(HASHES, "hash")):
            if each.get("algo") == "sha-256":
                self.sha256 = base64.b64decode(each.text).hex()

    def description(self):
        if self.said is not None:
            return self.said
        description = ElementTree.Element(name(FILES, "description"))
        file = put(description, FILES, "file")
        put(file, FILES, "media-type").text = "application/octet-stream"
        put(file, FILES, "name").text = self.title
        put(file, FILES, "size").text = str(self.size)
        put(file, HASHES, "hash", algo="sha-256").text = base64.b64encode(bytes.fromhex(self.sha256)).decode()
        return description


async def offered(engine, args):
    """A file of the engine's, with a channel for it."""
    await engine.ask("channel", LABEL, "", args.channel)
    return File("page.bin", args.send_file, await engine.ask("describe", args.send_file))


async def carry(peer, tell):
    """Sends it, or waits for it and ends the session, as who takes a file does."""
    file, engine = peer.file, peer.engine
    if peer.args.send_file is not None:
        own = lambda: any(each["label"] == LABEL for each in peer.happened.get("channel-open", []))
        await peer.until("a channel", own)
        sent = await engine.ask("send", LABEL, file.size, peer.args.piece, patience=70)
        await peer.until("the end", lambda: "terminated" in peer.happened, 70)
        tell("sent", size=file.size, sha256=file.sha256, confirmed="received" in peer.happened, **sent)
        reason = peer.happened["terminated"][0]
    else:
        await peer.until("the file", lambda: "all-here" in peer.happened, 70)
        came = await engine.ask("received")

        def is_promised():
            for each in peer.happened.get("checksum", []):
                file.hear_hash(each.find(name(FILES, "file")))
            return file.sha256 is not None

        await peer.until("its hash", is_promised)
        reason = "success" if came["sha256"] == file.sha256 else "media-error"
        tell("received", promised=file.sha256, **came)
        info = peer.jingle("session-info")
        put(info, FILES, "received", creator="initiator", name=peer.contents[0].name)
        await peer.ask(info)
        await peer.terminate(reason)
    if reason != "success":
        peer.fail("it ended with %s" % reason)
    peer.over.set()
