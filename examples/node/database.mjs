// The database that DATABASE names, through whichever SQLite this Node has: its own module (22.13 and newer), or the
// sqlite3 command. Replace this file by your favourite module; nothing in it is about litefs.

import { execFileSync } from "node:child_process";

const builtIn = await import("node:sqlite").catch(() => null);

/** All rows that a statement gives, as objects; `values` stand for its question marks. */
export const query = builtIn ? withModule(builtIn) : withCommand;

/** Several statements, in one transaction. */
export function transaction(...statements) {
  if (!builtIn) return void withCommand(["begin immediate", ...statements, "commit"].join(";\n"));
  query("begin immediate");
  try {
    for (const statement of statements) query(statement);
    query("commit");
  } catch (error) {
    query("rollback");
    throw error;
  }
}

function withModule({ DatabaseSync }) {
  const database = new DatabaseSync(process.env.DATABASE);
  database.exec("pragma busy_timeout = 5000");
  return (statement, ...values) => database.prepare(statement).all(...values);
}

function withCommand(statement, ...values) {
  const bound = statement.replaceAll("?", () => literal(values.shift()));
  const options = ["-batch", "-bail", "-init", "/dev/null", "-cmd", ".timeout 5000", "-json"];
  const output = execFileSync("sqlite3", [...options, process.env.DATABASE, bound], { encoding: "utf8" });
  return output.trim() ? JSON.parse(output) : [];
}

// As bytes, so that no text can end the literal it is in.
function literal(value) {
  if (typeof value === "number") return String(value);
  return value === null ? "null" : `cast(x'${Buffer.from(value).toString("hex")}' as text)`;
}
