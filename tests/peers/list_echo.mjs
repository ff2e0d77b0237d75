// SPDX-License-Identifier: MIT
// node-redis as a worker on plain lists: pops COUNT items of one and pushes each to the other.
//    list_echo.mjs SOCKET FROM TO COUNT
import {createRequire} from "node:module";

const {createClient, RESP_TYPES} = createRequire(new URL("../../bench/peers/package.json", import.meta.url))("redis");
const [socket, source, target, count] = process.argv.slice(2);
const client = createClient({socket: {path: socket}});
await client.connect();
const bytes = client.withTypeMapping({[RESP_TYPES.BLOB_STRING]: Buffer});
for (let i = 0; i < Number(count); i++) {
  const popped = await bytes.brPop(source, 30);
  if (popped === null) throw new Error("no item within 30 s");
  await bytes.lPush(target, popped.element);
}
await client.close();
