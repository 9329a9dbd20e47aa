"""Where to listen, and who calls, alike for every HTTP server."""

import socket

# All networks, of both families.
EVERYWHERE = "::"
_MAPPED = "::ffff:"


def dual_stack(port: int) -> socket.socket:
    """A socket that listens on EVERYWHERE, whatever the system's default. Raises OSError."""
    return socket.create_server((EVERYWHERE, port), family=socket.AF_INET6, dualstack_ipv6=True)


def resolved(host: str) -> str:
    """The address of a host, of version 4 where it has one. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    first = min(found, key=lambda info: info[0] != socket.AF_INET)
    return str(first[4][0])


def plain(address: str) -> str:
    """A client's address without brackets, and as its own family writes it.

    192.0.2.1 for ::ffff:192.0.2.1, which a socket of both families has it as.
    """
    bare = address.strip("[]")
    return bare.removeprefix(_MAPPED) if "." in bare else bare
