// SPDX-License-Identifier: MIT
// The cluster clients of Node.js:
//
//      node cluster.mjs ioredis|ioredis-auto|node-redis cluster:HOST:PORT WORK COUNT|SECONDSs
//
// ioredis refuses a pipeline, and all of them an MGET, whose keys lie on several nodes; so all calls are made at once, and
// waited for together.  With auto-pipelining ioredis sends those of one tick to each node together; node-redis does so
// anyway.
import {Cluster} from "ioredis";
import {createCluster} from "redis";
import {expectString, expectStrings, keys, main} from "./shared/bench.mjs";

const [peer] = process.argv.splice(2, 1);

async function open({host, port}) {
  const seed = {host: host.replace(/^cluster:/, ""), port};
  if (peer === "node-redis") {
    const client = createCluster({rootNodes: [{socket: seed}]});
    await client.connect();
    return {client, close: () => client.close()};
  }
  const client = new Cluster([seed], {enableAutoPipelining: peer === "ioredis-auto"});
  return {client, close: () => client.quit()};
}

await main(async (target) => {
  const {client, close} = await open(target);
  const together = (count) => async (full) => {
    expectStrings(await Promise.all(keys.slice(0, count).map((key) => client.get(key))), count, 16, full);
  };
  let next = 0;
  const works = {
    get_any: async () => expectString(await client.get(keys[next++ % keys.length]), 16),
    pipe1000: together(1000),
    mget100: together(100),
  };
  return {works, close};
});
