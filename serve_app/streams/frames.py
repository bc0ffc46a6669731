"""Frames of WebSockets as clients send them."""

from __future__ import annotations

from fastapi import WebSocket, WebSocketDisconnect


async def received(socket: WebSocket) -> str:
    """The text of the next frame; bytes are no message of ours, and answered like any other wrong one."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    return message.get("text") or ""
