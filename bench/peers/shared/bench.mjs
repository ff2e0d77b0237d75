// SPDX-License-Identifier: MIT
// What the Node.js peers share: the command line, the clock loop, what a process used, the line of JSON.
//
// A peer gives `open({path} | {host, port}) -> {works, close}`; a work is an async function(full) that does
// one operation and checks it: every element when `full`, else count, first and last.
import {readFileSync} from "node:fs";

export const keys = Array.from({length: 1000}, (_, i) => `bench:key:${String(i).padStart(4, "0")}`);
export const value = "0123456789abcdef";
const commandsOf = {pipe100: 100, pipe1000: 1000, job50: 50, jobs: 500};

export function expect(ok, what) {
  if (!ok) throw new Error(`unexpected reply: not ${what}`);
}

export function expectString(text, length) {
  expect(typeof text === "string" && text.length === length, `a string of ${length} bytes`);
}

export function expectStrings(values, count, length, full) {
  expect(Array.isArray(values) && values.length === count, `an array of ${count}`);
  if (full) for (const text of values) expectString(text, length);
  expectString(values[0], length);
  expectString(values[count - 1], length);
}

export function expectHash(values, full) {
  expectString(values["field:0000000000"], 16);
  expectString(values["field:0000000999"], 16);
  if (full) expectStrings(Object.values(values), 1000, 16, true);
}

async function measure(name, work, budget) {
  const limit = parseFloat(budget), timed = budget.endsWith("s");
  const commands = commandsOf[name] ?? 1;
  const chunk = ["get", "set", "get64k"].includes(name) ? 16 : 1;
  let rounds = 0, seconds;
  await work(true);
  for (const end = performance.now() + (timed ? 400 : 0); performance.now() < end;) await work(false); // let it compile
  const before = process.cpuUsage(), begin = process.hrtime.bigint();
  do {
    for (let i = 0; i < chunk; i++) await work(false);
    rounds += chunk;
    seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  } while (timed ? seconds < limit : rounds < limit);
  const used = process.cpuUsage(before);
  const peak = Number(/VmHWM:\s*(\d+)/.exec(readFileSync("/proc/self/status", "latin1"))[1]);
  console.log(JSON.stringify({
    work: name, ops: rounds * commands, seconds, cpu_user: used.user / 1e6, cpu_sys: used.system / 1e6, peak_kib: peak,
  }));
}

export async function main(open) {
  const [address, name, budget] = process.argv.slice(2);
  if (!budget) throw new Error("usage: <program> HOST:PORT|unix:PATH WORK COUNT|SECONDSs");
  const colon = address.lastIndexOf(":");
  const target = address.startsWith("unix:")
    ? {path: address.slice(5)}
    : {host: address.slice(0, colon), port: Number(address.slice(colon + 1))};
  const {works, close} = await open(target);
  if (!works[name]) throw new Error(`unknown work: ${name}`);
  await measure(name, works[name], budget);
  await close();
}
