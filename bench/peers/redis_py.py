# SPDX-License-Identifier: MIT
"""redis-py with the hiredis parser; replies stay bytes."""
import itertools
import re
import resource
import sys
import time

import hiredis  # noqa: F401  (redis-py takes it when it is there; without it this peer must not run)
import redis
import redis.cluster

KEYS = ["bench:key:%04d" % i for i in range(1000)]
COMMANDS = {"pipe100": 100, "pipe1000": 1000, "lock": 2}


def expect(ok, what):
    if not ok:
        sys.exit("bench: unexpected reply: not " + what)


def expect_strings(values, count, length, full):
    expect(isinstance(values, list) and len(values) == count, "an array of %d" % count)
    for value in values if full else (values[0], values[-1]):
        expect(isinstance(value, bytes) and len(value) == length, "a string of %d bytes" % length)


def works(client, cluster=False):
    rotation = itertools.cycle(KEYS)

    def get(full):
        expect(len(client.get(KEYS[0])) == 16, "16 bytes")

    def get_any(full):
        expect(len(client.get(next(rotation))) == 16, "16 bytes")

    def get64k(full):
        expect(len(client.get("bench:big")) == 65536, "65536 bytes")

    def set_(full):
        expect(client.set("bench:set", b"0123456789abcdef") is True, "OK")

    def pipeline(count):
        def run(full):
            pipe = client.pipeline() if cluster else client.pipeline(transaction=False)
            for key in KEYS[:count]:
                pipe.get(key)
            expect_strings(pipe.execute(), count, 16, full)
        return run

    def lrange(full):
        expect_strings(client.lrange("bench:list", 0, -1), 10000, 32, full)

    def hgetall(full):
        values = client.hgetall("bench:hash")
        expect(len(values) == 1000 and len(values[b"field:0000000999"]) == 16, "a map of 1,000")
        if full:
            expect_strings(list(values.values()), 1000, 16, True)

    def mget(full):
        expect_strings(client.mget(KEYS), 1000, 16, full)

    def mget100(full):
        expect_strings(client.mget_nonatomic(KEYS[:100]), 100, 16, full)

    def lock(full):
        held = client.lock("bench:lock", timeout=10, blocking=False)
        expect(held.acquire(), "acquired")
        held.release()

    return {"lock": lock, "get": get, "get_any": get_any, "get64k": get64k, "set": set_, "pipe100": pipeline(100), "pipe1000": pipeline(1000),
            "lrange": lrange, "hgetall": hgetall, "mget": mget, "mget100": mget100}


def measure(name, work, budget):
    limit, timed = float(budget.rstrip("s")), budget.endswith("s")
    commands = COMMANDS.get(name, 1)
    chunk = 16 if name in ("get", "set", "get64k") else 1
    rounds = 0
    work(True)
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    while True:
        for _ in range(chunk):
            work(False)
        rounds += chunk
        seconds = time.monotonic() - begin
        if seconds >= limit if timed else rounds >= limit:
            break
    after = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/status") as status:
        peak = int(re.search(r"VmHWM:\s*(\d+)", status.read()).group(1))
    print('{"work":"%s","ops":%d,"seconds":%.6f,"cpu_user":%.6f,"cpu_sys":%.6f,"peak_kib":%d}' % (
        name, rounds * commands, seconds, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, peak))


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: redis_py.py HOST:PORT|unix:PATH WORK COUNT|SECONDSs")
    address, name, budget = sys.argv[1:]
    cluster = address.startswith("cluster:")
    if cluster:
        host, port = address[8:].rsplit(":", 1)
        client = redis.cluster.RedisCluster(host=host, port=int(port))
    elif address.startswith("unix:"):
        client = redis.Redis(unix_socket_path=address[5:])
    else:
        host, port = address.rsplit(":", 1)
        client = redis.Redis(host=host, port=int(port))
    table = works(client, cluster)
    if name not in table:
        sys.exit("bench: unknown work: " + name)
    measure(name, table[name], budget)


main()
