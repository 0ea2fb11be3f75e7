"""A browser as an engine: it shows a page of ours, which this program serves on loopback, and that does what it is told."""

import asyncio
import ctypes
import itertools
import json
import os
import pathlib
import signal
import tempfile

PAGE = pathlib.Path(__file__).with_name("browser.html")
# How long a step of a machine under load may take, in seconds.
PATIENCE = 30


class Refused(Exception):
    """The browser could not do it, and says why."""


class Engine:
    """What a peer does with WebRTC; what happens by itself comes to `on_event`."""

    trickles = True

    def __init__(self, args, on_event):
        self.args, self.on_event = args, on_event
        self.numbers, self.waiting = itertools.count(), {}
        self.stream, self.shown = None, asyncio.Event()
        self.process, self.version = None, None
        self.folder = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)

    async def start(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        line = self.args.browser
        words = (firefox if "firefox" in line else chromium)(self.args, self.folder.name)
        log = open(self.args.browser_log, "wb") if self.args.browser_log else asyncio.subprocess.DEVNULL
        # It has a group of its own, so that all its processes end with it; and with us, however we end.
        page = "http://127.0.0.1:%d/" % port
        # What it leaves when it is killed goes with its profile.
        place = {**os.environ, "TMPDIR": self.folder.name}
        more = {"env": place, "stdout": log, "stderr": log, "start_new_session": True, "preexec_fn": end_with_parent}
        self.process = await asyncio.create_subprocess_exec(line, *words, page, **more)
        await asyncio.wait_for(self.shown.wait(), PATIENCE)
        self.version = await self.ask("open")

    async def serve(self, reader, writer):
        """HTTP as far as the page needs it: itself, the orders as events, and what it tells."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return  # A connection that the browser had opened and did not need.
        method, path = head.split(" ")[:2]
        if path == "/orders":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            self.stream = writer
            self.shown.set()
            return
        body, kind = b"", "text/plain"
        if method == "POST":
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            self.hear(json.loads(await reader.readexactly(int(fields["content-length"]))))
        elif path == "/":
            body, kind = PAGE.read_bytes(), "text/html"
        head = "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        writer.write((head % (kind, len(body))).encode() + body)
        await writer.drain()
        writer.close()

    def hear(self, told):
        if "event" in told:
            self.on_event(told.pop("event"), told)
            return
        waiting = self.waiting.pop(told["id"])
        if waiting.done():
            return
        if "error" in told:
            waiting.set_exception(Refused(told["error"]))
        else:
            waiting.set_result(told["value"])

    async def ask(self, order, *words, patience=PATIENCE):
        number = next(self.numbers)
        self.waiting[number] = asyncio.get_running_loop().create_future()
        text = json.dumps({"id": number, "order": order, "words": words})
        self.stream.write(("data: %s\n\n" % text).encode())
        try:
            return await asyncio.wait_for(self.waiting[number], patience)
        except Refused as why:
            raise Refused("%s: %s" % (order, why)) from None

    async def speak(self, codec):
        # Without a wish the browser offers all that it has.
        await self.ask("speak", None if codec == "audio/opus" else codec)

    async def offer(self, restart=False):
        return await self.ask("offer", restart)

    async def answer(self):
        return await self.ask("answer")

    async def hear_sdp(self, kind, sdp):
        await self.ask("hear", kind, sdp)

    async def candidate(self, mid, line):
        await self.ask("candidate", mid, line)

    async def stats(self):
        return await self.ask("stats")

    async def close(self):
        if self.process and self.process.returncode is None:
            os.killpg(self.process.pid, 9)
            await self.process.wait()
        self.folder.cleanup()


def end_with_parent():
    """PR_SET_PDEATHSIG of Linux, which Python has no name for."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def chromium(args, folder):
    words = ["--headless", "--user-data-dir=" + folder, "--remote-debugging-port=0", "--no-first-run", "--disable-gpu"]
    words += ["--use-fake-device-for-media-stream"]
    words += ["--autoplay-policy=no-user-gesture-required", "--disable-background-networking"]
    words += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
    if args.speech:
        words.append("--use-file-for-fake-audio-capture=" + args.speech)
    if not args.names:
        # Who may use the microphone may know the addresses, too.
        words += ["--use-fake-ui-for-media-stream", "--disable-features=WebRtcHideLocalIpsWithMdns"]
    # Its sandbox does not work for root.
    return words + (["--no-sandbox"] if os.getuid() == 0 else [])


def firefox(args, folder):
    wanted = {
        "media.navigator.streams.fake": True,
        "media.navigator.permission.disabled": True,
        "media.navigator.audio.fake_frequency": args.tone,
        "media.autoplay.default": 0,
        # Where there is no loudspeaker, it plays all the same.
        "media.cubeb.force_null_context": True,
        "media.peerconnection.ice.obfuscate_host_addresses": bool(args.names),
        "datareporting.policy.dataSubmissionEnabled": False,
        "browser.shell.checkDefaultBrowser": False,
    }
    lines = ["user_pref(%s, %s);" % (json.dumps(key), json.dumps(value)) for key, value in wanted.items()]
    pathlib.Path(folder, "user.js").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["--headless", "--no-remote", "--profile", folder]
