// Notes, as a web application: it opens a SQLite file and knows nothing of litefs.
// Whoever visits may leave a note. worker.mjs counts the words of each, later, in the background.

import { createServer } from "node:http";
import { text as readBody } from "node:stream/consumers";

import { query } from "./database.mjs";

const { HOSTNAME, APP_HOST = "127.0.0.1", APP_PORT } = process.env;

const escaped = (text) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

const page = (notes) => `<!doctype html>
<title>Notes</title>
<form method=post action=/notes><input name=text autofocus> <button>Leave a note</button></form>
<ul>${notes.map((note) => `<li>${escaped(note.text)}`).join("")}</ul>
<p>Shown by node ${escaped(HOSTNAME)}.
`;

const routes = {
  "GET /": () => html(page(query("select text from notes order by id"))),
  "GET /notes": () => json(query("select * from notes order by id")),
  "GET /diary": () => json(query("select * from diary order by id")),
  "POST /notes": async (request) => {
    const text = new URLSearchParams(await readBody(request)).get("text")?.trim();
    if (!text) return [400, { "content-type": "text/plain" }, "a note needs a text\n"];
    query("insert into notes (text, node) values (?, ?)", text, HOSTNAME);
    return [303, { location: "/" }, ""];
  },
};

const html = (text) => [200, { "content-type": "text/html; charset=utf-8" }, text];
const json = (value) => [200, { "content-type": "application/json" }, JSON.stringify(value)];

const server = createServer(async (request, response) => {
  const route = routes[`${request.method} ${request.url}`];
  let answer = [404, { "content-type": "text/plain" }, "there is nothing here\n"];
  try {
    if (route) answer = await route(request);
  } catch (error) {
    console.error(error);
    answer = [500, { "content-type": "text/plain" }, "something went wrong\n"];
  }
  const [status, headers, body] = answer;
  response.writeHead(status, headers).end(body);
});

server.listen(Number(APP_PORT), APP_HOST);
process.on("SIGTERM", () => {
  server.close();
  server.closeAllConnections();
});
