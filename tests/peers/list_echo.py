# SPDX-License-Identifier: MIT
"""redis-py as a worker on plain lists: pops COUNT items of one and pushes each to the other.

   list_echo.py SOCKET FROM TO COUNT"""
import sys

import redis

socket, source, target, count = sys.argv[1:]
client = redis.Redis(unix_socket_path=socket)
for _ in range(int(count)):
    popped = client.brpop(source, timeout=30)
    assert popped is not None, "no item within 30 s"
    client.lpush(target, popped[1])
