// Counts the words of notes. litefs runs it on the primary as long as that is primary.
// A note without a count is the queue, and each job is one transaction: it is done on one node, or not at all.

import { setTimeout } from "node:timers/promises";

import { query } from "./database.mjs";

const { HOSTNAME } = process.env;
const PAUSE = 100; // ms between two looks at an empty queue

const tell = (what) => query("insert into diary (node, what) values (?, ?)", HOSTNAME, what);

function job() {
  const [note] = query("select id, text from notes where words is null order by id limit 1");
  if (!note) return false;
  const words = note.text.split(/\s+/).filter(Boolean).length;
  query("update notes set words = ?, counted_by = ? where id = ?", words, HOSTNAME, note.id);
  return true;
}

let askedToEnd = false;
process.on("SIGTERM", () => (askedToEnd = true));

tell("worker began");
while (!askedToEnd) {
  if (!job()) await setTimeout(PAUSE);
}
tell("worker ended"); // before another node becomes primary, so this can still be written
