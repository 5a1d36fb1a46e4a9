"""A camera on the network, in a process of its own that can be killed and stopped: MJPEG over HTTP, or RTSP.

    python stream_server.py mjpeg PORT PICTURE.png WIDTH HEIGHT RATE

Its frames are made here, encoded by one ffmpeg, and sent to whoever is connected. Each carries its number and the time
of its making, twice: in the upper left and in the lower right corner, so that a frame of two halves betrays itself.
It prints a line on standard output when it is ready. SIGUSR1 makes it send damaged data for half a second.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
CELL, COLUMNS, BITS = 8, 4, 48  # pixels; of 48 bits, 16 are the number and 32 the milliseconds
LONGEST_S = 600.0  # no server of a test may run for longer
DAMAGED_S = 0.5
PARTS = COLUMNS * CELL, -(-BITS // COLUMNS) * CELL  # width and height of a stamp


def stamp(picture: U8, number: int, milliseconds: int) -> None:
    """Write both into both corners of (H, W, 3)."""
    bits = ((number & 0xFFFF) << 32) | (milliseconds & 0xFFFFFFFF)
    cells = np.array([bits >> i & 1 for i in range(BITS)], np.uint8).reshape(-1, COLUMNS)
    block = (cells * 88 + 2).repeat(CELL, 0).repeat(CELL, 1)[..., None]
    picture[: block.shape[0], : block.shape[1]] = block
    picture[-block.shape[0] :, -block.shape[1] :] = block


def read_stamp(picture: U8) -> tuple[int, int] | None:
    """Number and milliseconds; None where the corners do not agree."""
    width, height = PARTS
    found = []
    for corner in (picture[:height, :width], picture[-height:, -width:]):
        cells = corner[CELL // 2 :: CELL, CELL // 2 :: CELL].mean(axis=2) > 46
        found.append(sum(1 << i for i, bit in enumerate(cells.ravel()[:BITS]) if bit))
    return (found[0] >> 32, found[0] & 0xFFFFFFFF) if found[0] == found[1] else None


class Hub:
    """Gives each piece to all who listen; who does not keep up loses pieces, as with a camera."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[socketserver.BaseRequestHandler, Callable[[bytes], None]] = {}
        self._damaged_until = 0.0

    def damage(self, *_: object) -> None:
        self._damaged_until = time.monotonic() + DAMAGED_S

    def give(self, piece: bytes, damaged: Callable[[bytes], bytes]) -> None:
        broken = False
        if time.monotonic() < self._damaged_until:
            try:
                piece = damaged(piece)
            except ConnectionAbortedError:
                piece, broken = piece[: len(piece) // 2], True
        with self._lock:
            listeners = list(self._listeners.items())
        for key, send in listeners:
            try:
                send(piece)
                if broken:
                    key.request.shutdown(socket.SHUT_RDWR)
            except OSError:
                self.remove_client(key)

    def join(self, key: socketserver.BaseRequestHandler, send: Callable[[bytes], None]) -> None:
        with self._lock:
            self._listeners[key] = send

    def remove_client(self, key: socketserver.BaseRequestHandler) -> None:
        with self._lock:
            self._listeners.pop(key, None)

    def has(self, key: socketserver.BaseRequestHandler) -> bool:
        with self._lock:
            return key in self._listeners


HUB = Hub()


def frames(base: U8, rate: float, pipe: subprocess.Popen[bytes]) -> None:
    """Into ffmpeg, for ever."""
    assert pipe.stdin is not None
    picture, number, due = base.copy(), 0, time.monotonic()
    while True:
        np.copyto(picture, base)
        stamp(picture, number, int(time.monotonic() * 1e3))
        pipe.stdin.write(picture.tobytes())
        pipe.stdin.flush()
        number += 1
        # What was missed is missed: a camera does not make up for the time that it was stopped.
        due = max(due + 1 / rate, time.monotonic())
        time.sleep(due - time.monotonic() if due > time.monotonic() else 0)


def ffmpeg(size: tuple[int, int], rate: float, output: list[str]) -> subprocess.Popen[bytes]:
    command = ["ffmpeg", "-loglevel", "error", "-fflags", "nobuffer", "-f", "rawvideo", "-pix_fmt", "bgr24"]
    command += ["-s", f"{size[0]}x{size[1]}", "-r", f"{rate:g}", "-i", "-", "-threads", "1", "-flush_packets", "1"]
    return subprocess.Popen([*command, *output], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def pictures(pipe: subprocess.Popen[bytes]) -> None:
    """JPEGs out of ffmpeg to the hub."""
    assert pipe.stdout is not None
    data = b""
    while chunk := pipe.stdout.read1(1 << 16):  # type: ignore[attr-defined]
        data += chunk
        while (end := data.find(b"\xff\xd9")) >= 0:
            HUB.give(data[: end + 2], cut)
            data = data[end + 2 :]


def cut(picture: bytes) -> bytes:
    """The upper half alone, with or without an end, or something else."""
    half = picture[: len(picture) // 2]
    return random.choice([half, half + b"\xff\xd9", b"\0" * len(half), picture[:-2]])


def packets(port: socket.socket) -> None:
    """RTP packets to the hub, as they are interleaved into RTSP (RFC 2326, 10.12)."""
    while True:
        packet = port.recv(1 << 16)
        HUB.give(b"$\0" + len(packet).to_bytes(2, "big") + packet, cut_off)


def cut_off(packet: bytes) -> bytes:
    """Half a packet and a broken connection: TCP loses nothing else."""
    if random.random() < 0.1:
        raise ConnectionAbortedError
    return packet


class Http(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(4096)
        head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
        self.request.sendall(head)
        limit(self.request)

        def send(picture: bytes) -> None:
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            self.request.sendall(head.encode() + picture + b"\r\n")

        listen(self, send)


class Rtsp(socketserver.StreamRequestHandler):
    sdp = ""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while request := self.request_lines():
                self.answer(request)

    def request_lines(self) -> list[str]:
        lines: list[str] = []
        while line := self.rfile.readline():
            if line.startswith(b"$"):  # RTCP of the client's
                rest = line[4:]
                need = int.from_bytes(line[2:4], "big") - len(rest)
                self.rfile.read(max(0, need))
                continue
            text = line.decode("latin-1").strip()
            if not text and lines:
                return lines
            if text:
                lines.append(text)
        return []

    def answer(self, request: list[str]) -> None:
        headers = dict(line.split(": ", 1) for line in request[1:] if ": " in line)
        method, url = request[0].split()[:2]
        extra, body = "", ""
        if method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = self.sdp
            extra = f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        else:
            extra = "Session: 1\r\n"
        text = f"RTSP/1.0 200 OK\r\nCSeq: {headers.get('CSeq', '0')}\r\n{extra}\r\n{body}"
        self.request.sendall(text.encode())
        if method == "PLAY":
            limit(self.request)
            threading.Thread(target=listen, args=(self, self.request.sendall), daemon=True).start()


def listen(key: socketserver.BaseRequestHandler, send: Callable[[bytes], None]) -> None:
    HUB.join(key, send)
    while HUB.has(key):
        time.sleep(0.05)


def limit(connection: socket.socket) -> None:
    """Who does not read for a second has gone; reading from him may take longer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        pass


def main() -> None:
    kind, port, picture = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    size, rate = (int(sys.argv[4]), int(sys.argv[5])), float(sys.argv[6])
    found = cv2.imread(picture)
    assert found is not None
    base = cv2.resize(found, size, interpolation=cv2.INTER_AREA)
    threading.Timer(LONGEST_S, lambda: signal.raise_signal(signal.SIGKILL)).start()
    signal.signal(signal.SIGUSR1, HUB.damage)
    handler: type[socketserver.BaseRequestHandler] = Http
    if kind == "mjpeg":
        pipe = ffmpeg(size, rate, ["-c:v", "mjpeg", "-q:v", "3", "-f", "mjpeg", "pipe:1"])
        threading.Thread(target=pictures, args=(pipe,), daemon=True).start()
    else:
        udp, rtcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        rtcp.bind(("127.0.0.1", 0))
        target = f"rtp://127.0.0.1:{udp.getsockname()[1]}?rtcpport={rtcp.getsockname()[1]}&pkt_size=1200"
        coding = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", f"{rate / 2:.0f}"]
        pipe = ffmpeg(size, rate, [*coding, "-pix_fmt", "yuv420p", "-crf", "18", "-f", "rtp", target])
        threading.Thread(target=packets, args=(udp,), daemon=True).start()
        Rtsp.sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=eye\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
        Rtsp.sdp += "c=IN IP4 0.0.0.0\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:0\r\n"
        handler = Rtsp
    threading.Thread(target=frames, args=(base, rate, pipe), daemon=True).start()
    with Server(("127.0.0.1", port), handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever(0.05)


if __name__ == "__main__":
    main()
