"""Whether a llama-server that was started answers, and on which port: it is asked by nothing but its number."""

from __future__ import annotations

import http.client

LOOPBACK = "127.0.0.1"
ANSWERS_S = 5.0  # on a busy machine; it takes milliseconds


def port_of(pid: int) -> int | None:
    """The port of 127.0.0.1 on which process ``pid`` itself listens, once it says that its model is loaded; None
    before. Nobody else can have taken that port, so nobody else gets the key."""
    import psutil

    try:
        sockets = psutil.Process(pid).net_connections(kind="tcp4")
    except psutil.Error:
        return None
    listening = [socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN]
    ports = [address.port for address in listening if address.ip == LOOPBACK]
    return next((port for port in ports if _is_healthy(port)), None)


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWERS_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
