// SPDX-License-Identifier: MIT
// node-redis (the npm package "redis") with its default options.
import {createClient} from "redis";
import {expect, expectHash, expectString, expectStrings, keys, main, value} from "./shared/bench.mjs";

await main(async (target) => {
  const client = createClient({socket: target});
  await client.connect();

  const pipeline = (count) => async (full) => {
    const multi = client.multi();
    for (let i = 0; i < count; i++) multi.get(keys[i]);
    expectStrings(await multi.execAsPipeline(), count, 16, full);
  };

  const works = {
    get: async () => expectString(await client.get(keys[0]), 16),
    get64k: async () => expectString(await client.get("bench:big"), 65536),
    set: async () => expect((await client.set("bench:set", value)) === "OK", "OK"),
    pipe100: pipeline(100),
    pipe1000: pipeline(1000),
    lrange: async (full) => expectStrings(await client.lRange("bench:list", 0, -1), 10000, 32, full),
    hgetall: async (full) => expectHash(await client.hGetAll("bench:hash"), full),
    mget: async (full) => expectStrings(await client.mGet(keys), 1000, 16, full),
  };
  return {works, close: () => client.close()};
});
