import socket


def free_ports(count):
    """Different ports of this machine that nobody listened at just now."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
