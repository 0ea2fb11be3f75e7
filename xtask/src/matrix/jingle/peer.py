"""A Jingle peer for one session, made of what others wrote: slixmpp speaks XMPP; what WebRTC is, is an engine's: aiortc, or a
browser. Only the words between Jingle and SDP are ours (mapping.py), and what is done in which order.

  peer.py --engine aiortc --jid juliet@localhost/peer --password-file FILE --host H --port P --ca FILE --codec opus --accept
  peer.py --engine browser --browser chromium ... --codec pcmu --call romeo@localhost/call-1
  peer.py ... --contents, with either: in mid-call it adds pictures, and stops the other side's sound for a while
  peer.py --engine browser ... --script mute,video,restart, in a call; --send-file BYTES --call JID; --take-file --accept

Prints a JSON object a line. It ends with 0 when sound went both ways and the call ended in order, or the file is there."""

import argparse
import asyncio
import importlib
import json
import secrets
import sys
from xml.etree import ElementTree

import slixmpp
from slixmpp.xmlstream.handler import CoroutineCallback
from slixmpp.xmlstream.matcher import MatchXPath

import files
import mapping
from mapping import DTLS, ICE, INFO, JINGLE, RTP, SCTP, name, put

ENGINES = {"aiortc": "aiortc_engine", "browser": "browser"}
FEATURES = [JINGLE, RTP, RTP.replace(":rtp:1", ":rtp:audio"), ICE, DTLS, SCTP, mapping.FILES, mapping.GROUPING]
CODECS = {"opus": "audio/opus", "pcmu": "audio/PCMU"}
# Packets each way that make a conversation, and how loud a tone is at least (of 32,767).
PACKETS = 50
LOUD = 2000
# How long we alone may send, in seconds; how many packets may still be on their way then.
ALONE, LATE = 1.5, 10


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def rtp(media, payload):
    description = ElementTree.Element(name(RTP, "description"), {"media": media})
    put(description, RTP, "payload-type", **payload)
    return description


def reason_of(jingle):
    reason = jingle.find(name(JINGLE, "reason"))
    return reason[0].tag.split("}")[1] if reason is not None and len(reason) else None


class Peer(slixmpp.ClientXMPP):
    def __init__(self, args):
        with open(args.password_file, encoding="utf-8") as file:
            password = file.readline().rstrip("\n")
        super().__init__(args.jid, password)
        self.args, self.ca_certs = args, args.ca
        self.over, self.news = asyncio.Event(), asyncio.Event()
        self.failure = None
        self.engine = importlib.import_module(ENGINES[args.engine]).Engine(args, self.on_engine)
        self.peer, self.sid = None, None
        # What the other side has said of each content, in the order of SDP's sections, and what we have said last.
        self.contents, self.local, self.passwords = [], "", {}
        # Candidates of theirs before their first description, and events of ours before our first words.
        self.waiting, self.unsaid, self.has_spoken = [], [], False
        self.offers, self.rejected, self.answered = False, {}, 0
        self.happened, self.file = {}, None
        # One stanza after the other, however long each takes.
        self.turn = asyncio.Lock()
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0115")
        for feature in FEATURES:
            self.plugin["xep_0030"].add_feature(feature)
        match = MatchXPath("{jabber:client}iq/" + name(JINGLE, "jingle"))
        self.register_handler(CoroutineCallback("jingle", match, self.on_jingle))
        self.add_event_handler("session_start", lambda _: asyncio.ensure_future(self.guarded(self.on_start())))
        self.add_event_handler("failed_all_auth", lambda _: self.fail("no login"))

    def fail(self, why):
        self.failure = self.failure or why
        self.over.set()

    async def guarded(self, doing):
        """What goes wrong beside the stream of stanzas is a result, too."""
        try:
            await doing
        except Exception as error:
            self.fail("%r" % error)

    async def on_start(self):
        await self.plugin["xep_0115"].update_caps()
        self.send_presence()
        tell("online", jid=str(self.boundjid), engine=self.engine.version)
        if self.args.call:
            self.peer, self.sid = self.args.call, secrets.token_hex(8)
            await self.prepare()
            await self.offer()
            await self.say("session-initiate")

    async def prepare(self):
        """What this session is for."""
        if self.args.send_file is not None:
            self.file = await files.offered(self.engine, self.args)
        elif not self.args.take_file:
            await self.engine.speak(CODECS[self.args.codec])

    # What we say.

    @property
    def is_initiator(self):
        return bool(self.args.call)

    @property
    def own_role(self):
        return "initiator" if self.is_initiator else "responder"

    def jingle(self, action):
        initiator = str(self.boundjid) if self.is_initiator else self.peer
        jingle = ElementTree.Element(name(JINGLE, "jingle"), {"action": action, "sid": self.sid, "initiator": initiator})
        if action == "session-accept":
            jingle.set("responder", str(self.boundjid))
        return jingle

    def ask(self, jingle):
        """Says it at once; the future is of the answer."""
        iq = self.make_iq_set(ito=self.peer)
        iq.xml.append(jingle)
        return iq.send(timeout=20)

    def ask_later(self, jingle):
        asyncio.ensure_future(self.guarded(self.ask(jingle)))

    async def offer(self, restart=False):
        self.keep(await self.engine.offer(restart))
        self.offers = True

    def keep(self, sdp):
        self.local = sdp
        for section in mapping.sections(sdp):
            ufrag, password = section.credentials
            self.passwords[ufrag] = password

    def content(self, jingle, section):
        """A content as a section of ours has it."""
        known = next((each for each in self.contents if each.name == section.mid), None)
        creator = known.creator if known else self.own_role
        content = put(jingle, JINGLE, "content", creator=creator, name=section.mid)
        if section.kind == "application":
            content.set("senders", "initiator")
            content.append(self.file.description())
        else:
            content.set("senders", mapping.senders(section.direction, self.is_initiator))
            content.append(mapping.description(section, self.is_initiator))
        content.append(mapping.transport(section))
        return content

    async def say(self, action):
        jingle = self.jingle(action)
        for section in mapping.sections(self.local):
            self.content(jingle, section)
        mapping.group(jingle, self.local)
        answer = self.ask(jingle)
        self.has_spoken = True
        for event, told in self.unsaid:
            self.on_engine(event, told)
        await answer

    def transport_info(self, mid, ufrag, *children):
        known = next((each for each in self.contents if each.name == mid), None)
        creator = known.creator if known else self.own_role
        jingle = self.jingle("transport-info")
        content = put(jingle, JINGLE, "content", creator=creator, name=mid)
        transport = put(content, ICE, "transport", ufrag=ufrag, pwd=self.passwords[ufrag])
        transport.extend(children)
        self.ask_later(jingle)

    def on_engine(self, event, told):
        """What happens in the engine by itself."""
        if event == "candidate":
            if not self.has_spoken:
                self.unsaid.append((event, told))
                return
            self.transport_info(told["mid"], told["ufrag"], mapping.candidate_element(told["line"]))
        elif event == "gathered":
            if not self.has_spoken:
                self.unsaid.append((event, told))
                return
            section = mapping.sections(self.local)[0]
            complete = ElementTree.Element(name(ICE, "gathering-complete"))
            self.transport_info(section.mid, section.value("ice-ufrag"), complete)
        else:
            tell(event, **told)
            self.happened.setdefault(event, []).append(told)
            self.news.set()
            if event == "state" and told["state"] == "failed":
                self.fail("the connection has failed")

    async def until(self, what, is_so, seconds=30):
        """Waits for something that this program hears of."""

        async def wait():
            while not is_so():
                self.news.clear()
                await self.news.wait()

        try:
            await asyncio.wait_for(wait(), seconds)
        except asyncio.TimeoutError:
            raise ValueError("not within %s s: %s" % (seconds, what)) from None

    # What we hear.

    async def on_jingle(self, iq):
        jingle = iq.xml.find(name(JINGLE, "jingle"))
        if iq["type"] != "set" or jingle is None:
            return
        iq.reply(clear=True).send()
        action = jingle.get("action")
        tell("heard", action=action)
        try:
            async with self.turn:
                await self.act(action, jingle, str(iq["from"]))
        except Exception as error:  # What does not work is the result of a test.
            self.fail("%s: %r" % (action, error))
        self.news.set()

    async def act(self, action, jingle, sender):
        contents = jingle.findall(name(JINGLE, "content"))
        if action == "session-initiate":
            self.peer, self.sid = sender, jingle.get("sid")
            self.contents = list(map(mapping.Content, contents))
            # What is agreed on is decided when the offer is taken.
            await self.prepare()
            await self.take_offer()
            if self.args.take_file:
                self.file = files.File.of(self.contents[0].description)
                await self.engine.ask("expect", self.file.size)
            await self.say("session-accept")
            self.begin()
        elif action == "session-accept":
            self.contents = list(map(mapping.Content, contents))
            await self.take_answer()
            self.begin()
        elif action == "transport-info":
            for content in contents:
                await self.take_transport(content.get("name"), content.find(name(ICE, "transport")))
        elif action == "session-terminate":
            await self.end(reason_of(jingle))
        elif action == "session-info":
            for each in jingle:
                tell("info", what=each.tag.split("}")[1], namespace=each.tag[1:].split("}")[0])
                self.happened.setdefault(each.tag.split("}")[1], []).append(each)
        elif action == "content-reject":
            self.rejected.update({each.get("name"): reason_of(jingle) for each in contents})
        elif action == "content-accept":
            raise ValueError("it accepts what it cannot have")

    def sdp(self, setup):
        sdp = mapping.to_sdp(self.contents, setup, not self.is_initiator)
        return wished(sdp, self.args)

    async def take_offer(self):
        await self.engine.hear_sdp("offer", self.sdp("actpass"))
        self.keep(await self.engine.answer())
        await self.add_candidates()

    async def take_answer(self):
        """Who has answered DTLS once keeps its side, whoever offers again."""
        own = next(section.value("setup") for section in mapping.sections(self.first or self.local))
        setup = {"active": "passive", "passive": "active"}.get(own)
        await self.engine.hear_sdp("answer", self.sdp(setup))
        self.offers = False
        self.answered += 1
        await self.add_candidates()

    # The SDP in which we have answered first.
    first = None

    def begin(self):
        if not self.is_initiator:
            self.first = self.local
        what = files.carry(self, tell) if self.file else self.converse()
        asyncio.ensure_future(self.guarded(what))

    async def take_transport(self, mid, transport):
        for each in transport.findall(name(ICE, "candidate")):
            line = mapping.candidate_line(each)
            if line:
                self.waiting.append((mid, transport.get("ufrag"), line))
        known = next((each for each in self.contents if each.name == mid), None)
        if known is None:
            return
        ufrag = transport.get("ufrag")
        if ufrag and ufrag != known.transport.get("ufrag"):
            tell("restarted", offers=self.offers)
            for content in (each for each in self.contents if not each.rejected):
                content.renew(transport)
            if self.offers:
                await self.take_answer()
            else:
                await self.take_offer()
                own = mapping.sections(self.local)[0]
                self.transport_info(own.mid, own.value("ice-ufrag"))
        await self.add_candidates()

    async def add_candidates(self):
        """Those of a generation that is over are of no use any more."""
        if not self.contents or (self.offers and not self.answered):
            return
        while self.waiting:
            mid, ufrag, line = self.waiting.pop(0)
            present = self.contents[0].transport.get("ufrag")
            if ufrag in (None, present):
                await self.engine.candidate(mid, line)

    # What is done in a call.

    async def converse(self):
        if self.args.contents and (self.is_initiator or self.args.accept):
            await self.change_contents()
        for step in self.args.script:
            await getattr(self, step)()
        if self.is_initiator:
            await asyncio.sleep(self.args.seconds)
            await self.terminate("success")
            await self.end("success")

    async def terminate(self, condition):
        jingle = self.jingle("session-terminate")
        put(put(jingle, JINGLE, "reason"), JINGLE, condition)
        await self.ask(jingle)

    async def mute(self):
        """Silences our microphone for a while, and says so."""
        sent = []
        for muted in (True, False):
            await self.engine.ask("mute", muted)
            info = self.jingle("session-info")
            put(info, INFO, "mute" if muted else "unmute", creator="initiator", name=self.contents[0].name)
            await self.ask(info)
            before = await self.counts()
            await self.packets_more_than(before["in"] + PACKETS)
            sent.append((await self.counts())["out"] - before["out"])
        # When the other side has said that it is gone, what it reported is forgotten.
        stats = await self.counts()
        reported = {key: value for key, value in stats.items() if key.endswith("_there")}
        tell("was-muted", sent_muted=sent[0], sent_then=sent[1], **reported)

    async def video(self):
        """Adds a camera as an application does by addTrack, and hears that it is not wanted."""
        await self.packets_more_than(PACKETS)
        await self.engine.ask("film")
        await self.offer()
        section = mapping.sections(self.local)[-1]
        jingle = self.jingle("content-add")
        element = self.content(jingle, section)
        mapping.group(jingle, self.local)
        await self.ask(jingle)
        await self.until("an answer to the camera", lambda: section.mid in self.rejected)
        content = mapping.Content(element)
        content.rejected = (section.kind, section.protocol, " ".join(section.formats))
        self.contents.append(content)
        await self.take_answer()
        before = (await self.counts())["in"]
        await self.packets_more_than(before + PACKETS)
        tell("video-rejected", name=section.mid, why=self.rejected[section.mid])

    async def restart(self):
        """Begins ICE anew, as an application does that has a new network."""
        await self.packets_more_than(PACKETS)
        answered, old = self.answered, self.contents[0].credentials
        await self.offer(restart=True)
        own = mapping.sections(self.local)[0]
        self.transport_info(own.mid, own.value("ice-ufrag"))
        await self.until("an answer to a restart", lambda: self.answered > answered)
        if self.contents[0].credentials == old:
            raise ValueError("it has the credentials that it had")
        before = (await self.counts())["in"]
        await self.packets_more_than(before + 2 * PACKETS)
        tell("restarted-both", before=before)

    async def change(self, action, content, senders, creator, description=None):
        """Says something about one content; with a description it has a transport of its own."""
        jingle = self.jingle(action)
        content = put(jingle, JINGLE, "content", creator=creator, name=content, senders=senders)
        if description is not None:
            content.append(description)
            transport = put(content, ICE, "transport", ufrag=secrets.token_hex(4), pwd=secrets.token_hex(12))
            digest = ":".join("%02X" % byte for byte in secrets.token_bytes(32))
            put(transport, DTLS, "fingerprint", hash="sha-256", setup="actpass").text = digest
        await self.ask(jingle)

    async def change_contents(self):
        """Adds a camera and a screen, withdraws one, adds what nobody knows, and is the only one to speak for a while."""
        ours = self.own_role
        await self.packets_more_than(PACKETS)
        video = lambda codec: rtp("video", {"id": "96", "name": codec, "clockrate": "90000"})
        await self.change("content-add", "camera", "both", ours, video("VP8"))
        await self.change("content-add", "screen", ours, ours, video("VP9"))
        await self.change("content-add", "board", "both", ours, ElementTree.Element(name("urn:example:board", "description")))
        await self.change("content-add", "late", "both", ours, video("VP8"))
        await self.change("content-remove", "late", "both", ours)
        await self.until("answers to contents", lambda: {"camera", "screen", "board"} <= self.rejected.keys())
        tell("rejected", **self.rejected)
        mid = self.contents[0].name
        await self.change("content-modify", mid, ours, "initiator")
        await asyncio.sleep(0.3)
        before = (await self.counts())["in"]
        await asyncio.sleep(ALONE)
        came = (await self.counts())["in"] - before
        await self.change("content-modify", mid, "both", "initiator")
        tell("alone", came=came)
        if came > LATE:
            raise ValueError("%d packets came from who was not to send" % came)
        await self.packets_more_than(before + PACKETS)

    async def packets_more_than(self, count):
        for _ in range(200):
            if (await self.counts())["in"] > count:
                return
            await asyncio.sleep(0.05)
        raise ValueError("no more than %d packets came" % count)

    async def counts(self):
        return await self.engine.stats()

    async def end(self, reason):
        if self.over.is_set():
            return
        if self.file:
            self.happened["terminated"] = [reason]
            return
        stats = await self.counts()
        codec = self.codec()
        tell("media", **stats, codec=codec, reason=reason)
        if reason != "success":
            self.fail("it ended with %s" % reason)
        elif min(stats["in"], stats["out"] * self.args.ptime // 20) < PACKETS or stats["peak"] < LOUD:
            self.fail("too little sound: %r" % stats)
        elif codec != CODECS[self.args.codec].split("/")[1]:
            self.fail("the codec was %s" % codec)
        self.over.set()

    def codec(self):
        """The first codec of the answer."""
        if self.is_initiator:
            payload = self.contents[0].description.find(name(RTP, "payload-type"))
            return payload.get("name")
        found = mapping.sections(self.local)[0].value("rtpmap")
        return found.split(" ")[1].split("/")[0]


def wished(sdp, args):
    """What an application does to the SDP of the other side, to get from its browser what that has no options for."""
    lines = []
    for line in sdp.split("\r\n"):
        if args.wish and line.startswith("a=fmtp:") and "useinbandfec" in line:
            begin, _, rest = line.partition(" ")
            pairs = dict(pair.split("=") for pair in rest.split(";") + args.wish)
            line = begin + " " + ";".join(map("=".join, pairs.items()))
        lines.append(line)
        if args.ptime != 20 and line.startswith("a=mid:"):
            lines.append("a=ptime:%d" % args.ptime)
    return "\r\n".join(lines)


def arguments():
    parser = argparse.ArgumentParser()
    for option in ("--jid", "--password-file", "--host", "--ca"):
        parser.add_argument(option, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--engine", choices=sorted(ENGINES), required=True)
    parser.add_argument("--codec", choices=sorted(CODECS), default="opus")
    parser.add_argument("--tone", type=int, default=660)
    parser.add_argument("--seconds", type=float, default=4, help="of conversation, before it hangs up as the caller")
    parser.add_argument("--contents", action="store_true", help="add and change contents in mid-call")
    parser.add_argument("--script", type=lambda text: text.split(","), default=[], help="of mute, video, restart")
    parser.add_argument("--browser", default="chromium", help="the program")
    parser.add_argument("--browser-log")
    parser.add_argument("--speech", help="a WAV file that its microphone hears")
    parser.add_argument("--names", action="store_true", help="it hides its addresses behind names of mDNS")
    parser.add_argument("--wish", action="append", default=[], help="KEY=VALUE of Opus, told to the browser as if we did")
    parser.add_argument("--ptime", type=int, default=20, help="milliseconds in a packet, told likewise")
    parser.add_argument("--send-file", type=int, metavar="BYTES")
    parser.add_argument("--take-file", action="store_true")
    parser.add_argument("--piece", type=int, default=65_536, help="bytes of a message")
    parser.add_argument("--channel", type=int, help="the number of a channel that is used without being opened (RFC 8832 §4)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--call")
    what.add_argument("--accept", action="store_true")
    return parser.parse_args()


async def main():
    args = arguments()
    peer = Peer(args)
    try:
        await peer.engine.start()
        peer.connect(args.host, args.port)
        await asyncio.wait_for(peer.over.wait(), 80)
    except asyncio.TimeoutError:
        peer.fail("nothing for more than a minute")
    finally:
        await peer.engine.close()
    if peer.failure:
        tell("failed", why=peer.failure)
    await peer.disconnect()
    return 1 if peer.failure else 0


sys.exit(asyncio.run(main()))
