// The status page. It asks the node it comes from and nobody else: /status for what is, /events for what happens.
// Everything that is shown is set as text, never as HTML: names of databases and hosts are not ours.
"use strict";

const POLL = 2000; // ms between two looks at /status
const RETRY = 1000; // ms until lost events are asked for again
const MOST_ROWS = 200; // databases that are shown
const MOST_EVENTS = 100;

const byId = (id) => document.getElementById(id);
const databases = new Map();
let status = {};
let busy = false; // a button was pressed, and its answer has not come
let drawn = true;

async function ask(path, options = {}) {
  const answer = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
  if (answer.status === 401) location.reload(); // the session is over: the form is there
  if (!answer.ok) throw new Error((await answer.text()).trim() || `status ${answer.status}`);
  return answer;
}

// ------------------------------------------------------------------------------------------------------- what is

// With the databases, unless they are many: no event tells of one that is halted, or that the disk fails to store.
async function look(path = databases.size > MOST_ROWS ? "/status?databases=none" : "/status") {
  const found = await (await ask(path)).json();
  if (found.databases) {
    databases.clear();
    for (const [name, database] of Object.entries(found.databases)) databases.set(name, database);
  }
  status = found;
  draw();
}

async function keepLooking() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL));
    if (document.hidden) continue;
    try {
      await look();
    } catch (error) {
      unreachable(error);
    }
  }
}

// --------------------------------------------------------------------------------------------------- what happens

async function listen() {
  for (;;) {
    try {
      const answer = await ask("/events");
      await look("/status"); // what happened before the first event
      connected(true);
      await readLines(answer.body, (line) => happened(JSON.parse(line)));
      connected(false, "the node has ended the events");
    } catch (error) {
      unreachable(error);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY));
  }
}

async function readLines(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    lines.forEach(take);
  }
}

function happened(event) {
  if (event.type === "tx") {
    const { txID, postApplyChecksum, pageSize, commit, timestamp } = event.data;
    const known = databases.get(event.db) || {};
    databases.set(event.db, { ...known, txid: txID, checksum: postApplyChecksum, pageSize, pages: commit });
    note(timestamp, commit ? `${event.db} ${txID}, ${commit} pages` : `${event.db} ${txID}, deleted`);
    draw();
  } else if (event.type === "primaryChange") {
    const who = event.data.isPrimary ? "this node" : event.data.hostname || "nobody";
    note(new Date().toISOString(), `primary: ${who}`);
    look().catch(unreachable);
  }
}

function note(time, text) {
  const line = document.createElement("li");
  line.textContent = `${time.slice(11, 23)}  ${text}`;
  line.title = time;
  byId("events").prepend(line);
  while (byId("events").childElementCount > MOST_EVENTS) byId("events").lastChild.remove();
}

// ---------------------------------------------------------------------------------------------------------- drawing

function draw() {
  if (!drawn) return; // at most once a frame, however fast transactions come
  drawn = false;
  requestAnimationFrame(() => {
    drawn = true;
    drawNode();
    drawNodes();
    drawDatabases();
    drawBackup();
  });
}

function drawNode() {
  const name = status.hostname || status.id;
  document.title = `${name} (${status.role}) - litefs`;
  byId("hostname").textContent = name;
  byId("role").textContent = status.role;
  byId("role").className = `badge ${status.role === "looking" ? "bad" : "good"}`;
  facts("facts", [
    ["Primary", status.primary ? status.primary.hostname || status.primary.advertiseURL : "none"],
    ["Lag", status.lagMs === null ? "not known" : `${status.lagMs} ms`],
    ["Ready", status.ready ? "yes" : `no: ${status.reason}`],
    ["Candidate", yes(status.candidate)],
    ["Lease", lease()],
    ["Cluster", status.clusterID || "none yet"],
    ["Id", status.id],
    ["Address", status.advertiseURL],
    ["Version", status.version],
  ]);
  byId("promote").hidden = status.role === "primary" || !status.candidate;
  byId("promote").disabled = busy || !status.primary;
  byId("demote").hidden = byId("target").hidden = status.role !== "primary";
  byId("demote").disabled = busy;
  drawTargets();
}

function lease() {
  const left = status.leaseRemainingMs;
  return left === null || left === undefined ? status.leaseType : `${status.leaseType}, ${(left / 1000).toFixed(1)} s left`;
}

function drawTargets() {
  const targets = (status.members || []).filter((member) => member.candidate && member.connected);
  const wanted = [["", "to the candidate that has most"], ...targets.map((each) => [each.id, `to ${each.hostname || each.id}`])];
  const select = byId("target");
  if (JSON.stringify(wanted) === select.dataset.shown) return; // do not close it under somebody's hand
  select.dataset.shown = JSON.stringify(wanted);
  const chosen = select.value;
  select.replaceChildren(...wanted.map(([value, text]) => Object.assign(new Option(text, value), { selected: value === chosen })));
}

function drawNodes() {
  const own = { ...status, connected: true };
  const nodes = [own, ...(status.members || [])];
  rows("nodes", nodes.map((node) => [
    node.hostname || "",
    node === own ? status.role : isPrimary(node) ? "primary" : "",
    yes(node.candidate),
    node === own ? "this node" : yes(node.connected),
    node.id,
    link(node),
  ]));
}

function isPrimary(node) {
  return Boolean(status.primary && node.advertiseURL && status.primary.advertiseURL === node.advertiseURL);
}

function link(node) {
  if (!/^https?:\/\//.test(node.advertiseURL || "")) return node.advertiseURL || "";
  const anchor = document.createElement("a");
  anchor.href = node.advertiseURL;
  anchor.textContent = node.advertiseURL;
  anchor.rel = "noreferrer";
  return anchor;
}

function drawDatabases() {
  const filter = byId("filter").value.toLowerCase();
  const found = [...databases.keys()].filter((name) => name.toLowerCase().includes(filter)).sort();
  byId("count").textContent = `(${databases.size})`;
  byId("more").hidden = found.length <= MOST_ROWS;
  byId("more").textContent = `${found.length - MOST_ROWS} more are not shown: filter by name`;
  rows("databases", found.slice(0, MOST_ROWS).map((name) => {
    const each = databases.get(name);
    return [name, short(each.txid), each.checksum, each.pages ?? "", each.pageSize ?? "", notes(each)];
  }));
}

function notes(database) {
  if (database.failed) return "the disk has failed to store it: no commits until the node is started again";
  if (database.halted) return "halted: another node writes it";
  return database.pages === 0 ? "deleted" : "";
}

function drawBackup() {
  const backup = status.backup;
  byId("backup").hidden = !backup || !backup.active;
  if (!backup || !backup.active) return;
  const behind = backup.lagTransactions;
  facts("backup-facts", [
    ["To", backup.url || backup.type],
    ["Behind", behind === null ? "not known yet" : behind ? `${behind} transactions, ${backup.lagMs} ms` : "nothing"],
    ["Last upload", backup.lastUpload || "none yet"],
    ["Error", backup.error || "none"],
    ...Object.entries(backup.troubles || {}).map(([name, reason]) => [name, reason]),
  ]);
}

function facts(id, pairs) {
  byId(id).replaceChildren(...pairs.flatMap(([name, value]) => [cell("dt", name), cell("dd", value)]));
}

function rows(id, wanted) {
  const made = wanted.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((value) => cell("td", value)));
    return row;
  });
  byId(id).tBodies[0].replaceChildren(...made);
}

function cell(kind, value) {
  const made = document.createElement(kind);
  if (value instanceof Node) made.append(value);
  else made.textContent = String(value ?? "");
  return made;
}

const yes = (value) => (value === null || value === undefined ? "not known" : value ? "yes" : "no");
const short = (txid) => (txid || "").replace(/^0+(?=.)/, "");

function connected(now, reason = "") {
  byId("live").textContent = now ? "live" : "not connected";
  byId("live").className = `badge ${now ? "good" : "bad"}`;
  byId("trouble").hidden = now;
  byId("trouble").textContent = reason;
}

function unreachable(error) {
  connected(false, `the node does not answer: ${error.message}`);
}

// ---------------------------------------------------------------------------------------------------------- buttons

async function press(question, path) {
  byId("question").textContent = question;
  byId("sure").returnValue = "no";
  byId("sure").showModal();
  await new Promise((resolve) => byId("sure").addEventListener("close", resolve, { once: true }));
  if (byId("sure").returnValue !== "yes") return;
  busy = true;
  byId("done").textContent = "asked, waiting for the answer";
  draw();
  try {
    await ask(path, { method: "POST" });
    byId("done").textContent = "agreed";
  } catch (error) {
    byId("done").textContent = `refused: ${error.message}`;
  }
  busy = false;
  look().catch(unreachable);
}

byId("promote").addEventListener("click", () => press("Make this node the primary?", "/promote"));
byId("demote").addEventListener("click", () => {
  const target = byId("target");
  const who = target.selectedOptions[0].textContent;
  const query = target.value ? `?target=${encodeURIComponent(target.value)}` : "";
  press(`Give up being primary, and hand over ${who}?`, `/demote${query}`);
});
byId("filter").addEventListener("input", draw);

listen();
keepLooking();
