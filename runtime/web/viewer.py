"""One browser. It reports each message that it has drawn, and gets the newest frame then: there is no queue."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from medtex_edge.runtime.web.feed import Feed

AHEAD = 2  # messages that were not answered yet: one in the network, one being drawn
HEARTBEAT_S = 0.5
SILENT_S = 10.0  # a viewer that answers nothing for so long is dead
ANSWER = "drawn"
POLICY = 1008  # RFC 6455, 7.4.1


class Viewer:
    """Serves one accepted WebSocket until it ends. Holds no frame; a slow one gets fewer frames."""

    def __init__(self, socket: WebSocket, feed: Feed) -> None:
        self._socket, self._feed = socket, feed
        self._open = 0  # messages sent and not answered
        self._answered = asyncio.Event()
        self.sent = 0
        self.left_out = 0  # frames that came and went while this viewer was busy

    async def serve(self) -> bool:
        """Until the viewer leaves: True; or misbehaves or falls silent: False."""
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._send())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return all(task.result() for task in done)

    async def _listen(self) -> bool:
        """Count the answers; any other message ends the viewer."""
        with suppress(WebSocketDisconnect):
            while True:
                try:
                    message = await asyncio.wait_for(self._socket.receive(), SILENT_S)
                except asyncio.TimeoutError:
                    return False
                if message["type"] == "websocket.disconnect":
                    return True
                if message.get("text") != ANSWER or self._open == 0:
                    return False
                self._open -= 1
                self._answered.set()
        return True

    async def _send(self) -> bool:
        with suppress(WebSocketDisconnect):
            await self._send_text(self._feed.hello())
            serial = 0
            while True:
                while self._open >= AHEAD:
                    self._answered.clear()
                    await self._answered.wait()
                message = await self._feed.after(serial, HEARTBEAT_S)
                if message is None:
                    await self._send_text(self._feed.state())
                    continue
                self._open += 1
                await self._socket.send_bytes(message.data)
                self.sent += 1
                self.left_out += message.serial - serial - 1 if serial else 0
                serial = message.serial
        return True

    async def _send_text(self, text: str) -> None:
        self._open += 1
        await self._socket.send_text(text)
