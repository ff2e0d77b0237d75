// SPDX-License-Identifier: MIT
// Many callers of one ioredis client, each a GET after the other, with and without auto-pipelining:
//
//      node callers.mjs ADDRESS ioredis|ioredis_auto-<callers> SECONDS
import {Redis} from "ioredis";
import {expectString} from "./shared/bench.mjs";

const [address, work, limit] = process.argv.slice(2);
const [, name, count] = /^(\w+)-(\d+)$/.exec(work);
const colon = address.lastIndexOf(":");
const target = address.startsWith("unix:")
  ? {path: address.slice(5)}
  : {host: address.slice(0, colon), port: Number(address.slice(colon + 1))};
const client = new Redis({...target, enableAutoPipelining: name === "ioredis_auto"});

async function run(seconds) {
  let ops = 0;
  const before = process.cpuUsage(), begin = performance.now(), end = begin + seconds * 1000;
  const call = async () => {
    while (performance.now() < end) {
      expectString(await client.get("bench:key:0000"), 16);
      ops++;
    }
  };
  await Promise.all(Array.from({length: Number(count)}, call));
  const used = process.cpuUsage(before);
  return {ops, seconds: (performance.now() - begin) / 1000, cpu: (used.user + used.system) / ops};
}

await run(0.4); // let it compile
const {ops, seconds, cpu} = await run(Number(limit));
console.log(`{"work":"${work}","ops":${ops},"seconds":${seconds.toFixed(6)},"cpu_us":${cpu.toFixed(3)}}`);
await client.quit();
