// SPDX-License-Identifier: MIT
// ioredis with its default options.
import {Redis} from "ioredis";
import {expect, expectHash, expectString, expectStrings, keys, main, value} from "./shared/bench.mjs";

await main(async (target) => {
  const client = new Redis(target);

  const pipeline = (count) => async (full) => {
    const pipe = client.pipeline();
    for (let i = 0; i < count; i++) pipe.get(keys[i]);
    const results = await pipe.exec();
    expectStrings(results.map(([error, reply]) => error ?? reply), count, 16, full);
  };

  const works = {
    get: async () => expectString(await client.get(keys[0]), 16),
    get64k: async () => expectString(await client.get("bench:big"), 65536),
    set: async () => expect((await client.set("bench:set", value)) === "OK", "OK"),
    pipe100: pipeline(100),
    pipe1000: pipeline(1000),
    lrange: async (full) => expectStrings(await client.lrange("bench:list", 0, -1), 10000, 32, full),
    hgetall: async (full) => expectHash(await client.hgetall("bench:hash"), full),
    mget: async (full) => expectStrings(await client.mget(keys), 1000, 16, full),
  };
  return {works, close: () => client.quit()};
});
