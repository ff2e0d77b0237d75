// SPDX-License-Identifier: MIT
// BullMQ with its default options, but that finished jobs are removed, as Redmoon removes them.
import {Queue, Worker} from "bullmq";
import {expect, main} from "./shared/bench.mjs";

const payload = {text: "x".repeat(88)}; // 100 bytes as JSON
const options = {removeOnComplete: true};
const many = 50, bulk = 500, token = "bench";

await main(async (target) => {
  const connection = {...target, maxRetriesPerRequest: null};
  const queue = new Queue("bench", {connection});
  const worker = new Worker("bench", null, {connection, autorun: false});
  await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]);

  const add = () => queue.add("job", payload, options);
  const take = async () => {
    const job = await worker.getNextJob(token);
    expect(job?.data.text === payload.text, "the job that was added");
    return job;
  };
  const end = (job) => job.moveToCompleted(null, token, false);
  const each = (count, run) => Promise.all(Array.from({length: count}, run));

  const works = {
    job: async () => {
      await add();
      await end(await take());
    },
    job50: async () => {
      await each(many, add);
      const jobs = await each(many, take);
      await Promise.all(jobs.map(end));
    },
    jobs: async () => {
      const added = await queue.addBulk(Array.from({length: bulk}, () => ({name: "job", data: payload, opts: options})));
      expect(added.length === bulk, "as many jobs as were added");
    },
  };
  const close = async () => {
    await queue.obliterate({force: true});
    await Promise.all([worker.close(), queue.close()]);
  };
  return {works, close};
});
