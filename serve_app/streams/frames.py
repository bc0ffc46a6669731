"""Frames that clients send over WebSockets."""

from __future__ import annotations

from fastapi import WebSocket, WebSocketDisconnect


async def received(socket: WebSocket) -> str:
    """The text of the next frame. A binary frame gives an empty text, which is answered as any invalid message is.

    Raises: `WebSocketDisconnect` if the client has left.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    return message.get("text") or ""
