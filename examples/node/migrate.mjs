// Brings the database to the newest version. litefs runs it on the primary, and nowhere else.

import { query, transaction } from "./database.mjs";

const steps = [
  "create table notes (id integer primary key, text not null, node not null, words integer, counted_by)",
  "create table diary (id integer primary key, node not null, what not null)",
];

query("pragma journal_mode = wal");
const [{ user_version: version }] = query("pragma user_version");
for (let number = version; number < steps.length; number++) {
  transaction(steps[number], `pragma user_version = ${number + 1}`);
}
query("insert into diary (node, what) values (?, 'migrated')", process.env.HOSTNAME);
