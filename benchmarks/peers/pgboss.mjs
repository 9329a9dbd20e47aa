// pg-boss under load, from one Node process: PORT, MODE, SECONDS and CALLERS in the
// environment; prints jobs a second. MODE: insert (500 a call), send, or work.
import { createRequire } from "node:module";
import { join } from "node:path";

const { PORT, MODE, SECONDS, CALLERS, JOBENGINE_PEERS_NODE } = process.env;
const BATCH = 500;
const data = { job: "content" };

// require, for it looks into NODE_PATH too, which import does not.
const require = createRequire(
  JOBENGINE_PEERS_NODE ? join(JOBENGINE_PEERS_NODE, "from.cjs") : import.meta.url,
);
const library = require("pg-boss");
const PgBoss = library.PgBoss ?? library.default ?? library; // named since version 12

const boss = new PgBoss({
  connectionString: `postgres://postgres@127.0.0.1:${PORT}/postgres`,
  max: Number(CALLERS),
  supervise: false,
  schedule: false,
});
boss.on("error", (error) => {
  throw error;
});
await boss.start();
await boss.createQueue("q");

// insert takes the queue's name first since version 11, before it in each job.
const inserted = await boss
  .insert("q", [{ data }])
  .then(() => true, () => false);
const batch = Array.from({ length: BATCH }, () => (inserted ? { data } : { name: "q", data }));

// Each does its call, and gives how many jobs are done by it.
const modes = {
  insert: async () => {
    await (inserted ? boss.insert("q", batch) : boss.insert(batch));
    return BATCH;
  },
  send: async () => {
    if (!(await boss.send("q", data))) throw new Error("not sent");
    return 1;
  },
  work: async () => {
    const [job] = await boss.fetch("q");
    if (!job) return 0;
    await boss.complete("q", job.id);
    return 1;
  },
};

async function caller(step, end) {
  let jobs = 0;
  while (performance.now() < end) {
    const done = await step();
    if (!done) break;
    jobs += done;
  }
  return jobs;
}

async function run(step, seconds) {
  const began = performance.now();
  const callers = Array.from({ length: Number(CALLERS) }, () =>
    caller(step, began + seconds * 1000),
  );
  const jobs = (await Promise.all(callers)).reduce((sum, each) => sum + each, 0);
  return jobs / ((performance.now() - began) / 1000);
}

const seconds = Number(SECONDS);
if (MODE === "work") {
  // More than can be completed in the time.
  for (let jobs = 0; jobs < seconds * 2000; jobs += BATCH) await modes.insert();
  await boss.getDb().executeSql("ANALYZE"); // as autovacuum would, after a minute
}
console.log(await run(modes[MODE], seconds));
await boss.stop({ graceful: false });
