// The operator's view: who talks through the gate right now, and how to stop it.

import { answerBox, box } from "./answers.js";
import { ask } from "./gate.js";
import { $, clock, copy, until } from "./pieces.js";

const SOON = 100; // milliseconds: events that come together cause one look
let config = null;
let token = null; // in this variable only, as in the other view
let waiting = null;
let looks = 0;

export function oversee(known) {
  config = known;
  return { arrived, heard, listen };
}

async function arrived(given) {
  token = given;
  await look();
}

function listen() {
  setInterval(countDown, 1000);
}

// Each begin and end, told by the feed, is a reason to look again.
function heard({ name }) {
  if (token && (name === "conversation_started" || name === "conversation_ended")) waiting ??= setTimeout(look, SOON);
}

async function look() {
  waiting = null;
  looks += 1;
  const mine = looks;
  const got = await ask("/xuna/sessions", token);
  if (mine !== looks) return; // a later look is on its way
  if (got.ok) show(got.answer.sessions);
  else report(answerBox(got));
}

// Rows stay what they are, so that a button that somebody is about to press does not move away.
function show(sessions) {
  const body = $("sessions").tBodies[0];
  const over = new Map([...body.rows].map((row) => [row.dataset.session, row]));
  for (const session of sessions) if (!over.delete(session.id)) body.append(rowOf(session));
  for (const row of over.values()) remove(row);
  $("sessions").hidden = !sessions.length;
  $("nobody").hidden = Boolean(sessions.length);
  $("nobody").textContent = "Nobody talks through the gate right now. Begin with the banker, in the other window.";
  countDown();
}

function rowOf(session) {
  const row = copy("session-row");
  const { name = session.subject } = config.people.find(({ subject }) => subject === session.subject) ?? {};
  const { title = session.agent, longest } = config.agents.find((agent) => agent.name === session.agent) ?? {};
  row.dataset.session = session.id;
  if (longest) row.dataset.ends = session.started_at + longest;
  const values = { who: name, agent: title, since: clock(session.started_at), left: "no limit" };
  for (const [of, value] of Object.entries(values)) row.querySelector(`[data-of=${of}]`).textContent = value;
  button(row, "end", `End: ${name} with ${title}`, () => end(session, name));
  button(row, "revoke", `Revoke ${name}`, () => revoke(session, name));
  return row;
}

function button(row, kind, label, click) {
  const found = row.querySelector(`button.${kind}`);
  found.setAttribute("aria-label", label);
  found.onclick = click;
}

function remove(row) {
  if (row.contains(document.activeElement)) $("live-title").focus();
  row.remove();
}

function countDown() {
  for (const row of document.querySelectorAll("#sessions [data-ends]")) {
    row.querySelector("[data-of=left]").textContent = until(Number(row.dataset.ends));
  }
}

async function end({ id }, name) {
  const got = await ask(`/xuna/sessions/${id}`, token, { method: "DELETE" });
  report(got.ok ? box(`${name}’s conversation ends`, "They may begin another one.") : answerBox(got));
}

async function revoke({ issuer, subject }, name) {
  const got = await ask("/api/revoke", token, { body: { issuer, subject } });
  const text = "Their conversations end, and the token they hold opens no other. A new sign-in does.";
  report(got.ok ? box(`${name} is revoked`, text) : answerBox(got));
}

function report(piece) {
  $("overseen").replaceChildren(piece);
}
