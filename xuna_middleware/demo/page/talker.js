// The view of whoever talks: what a click does, and what is to be seen after it.

import { answerBox, isRelayed } from "./answers.js";
import { Conversation } from "./conversation.js";
import { REVOKED } from "./endings.js";
import { ask, asVisitor, conversationToken, signedUrl, tampered } from "./gate.js";
import { $, copy, enable, until } from "./pieces.js";

const FORGED = { plan_name: "enterprise" };
let config = null;
let token = null; // the access token: in this variable only, in no storage and on no screen
let pass = null; // the signed URL that waits for its one use
let conversation = null;

export function talk(known) {
  config = known;
  showAgents();
  return { arrived, heard: () => {}, listen };
}

async function arrived(given) {
  token = given;
  $("sign-in-first").hidden = true;
  for (const id of ["get-signed-url", "conversation-token", "cheat-variable", "cheat-token", "cheat-frame"]) $(id).disabled = false;
  await markAgents();
}

function listen() {
  $("get-signed-url").onclick = () => get(signedUrl);
  $("conversation-token").onclick = () => get(conversationToken);
  enable("visit", visit);
  $("start").onclick = start;
  $("end").onclick = () => conversation.end();
  $("say").onsubmit = say;
  cheat("cheat-variable", () => signedUrl(token, agent(), { dynamic_variables: FORGED }));
  cheat("cheat-none", () => signedUrl(null, agent()));
  cheat("cheat-token", () => signedUrl(tampered(token), agent()));
  cheat("cheat-frame", forgeFirstFrame);
  setInterval(countDown, 1000);
}

// 2: which agent

function agent() {
  return document.querySelector("input[name=agent]:checked").value;
}

function showAgents() {
  for (const [index, { name, title, about }] of config.agents.entries()) {
    const row = copy("agent-row");
    row.querySelector("input").value = name;
    row.querySelector("input").checked = index === 0;
    row.querySelector("b").textContent = title;
    row.querySelector("small").textContent = about;
    $("agents").append(row);
  }
}

async function markAgents() {
  const { answer } = await ask("/xuna/agents", token);
  const open = new Set((answer.agents ?? []).map(({ name }) => name));
  for (const row of document.querySelectorAll(".agent")) {
    const may = open.has(row.querySelector("input").value);
    row.querySelector("em").textContent = may ? "open to you" : "not open to you";
    row.querySelector("em").className = may ? "open" : "shut";
  }
}

// 3: a credential

async function get(issue) {
  take(await issue(token, agent()), "pass");
}

function take(got, place) {
  pass = got.ok && got.answer.signed_url ? got.answer : null;
  $(place).replaceChildren(answerBox(got));
  $("talk-start").hidden = !pass;
  $("talk-empty").hidden = Boolean(pass) || !$("chat").hidden;
}

// 4: talking

function start() {
  conversation?.end();
  $("lines").replaceChildren();
  $("chat").hidden = false;
  $("talk-start").hidden = true;
  talking(false);
  const { title, longest } = config.agents.find(({ name }) => name === pass.agent);
  const where = isRelayed(pass) ? "through the gate" : "directly";
  const mine = (act) => (...told) => current === conversation && act(...told); // the last one's words come late
  const current = new Conversation(pass, {
    ready: mine(() => { talking(true, longest); line("note", `Connected ${where}: ${title}, a sandbox agent`); }),
    said: mine((text) => line("agent-line", text)),
    failed: mine((text) => line("note", text)),
    ended: mine((text, code) => { talking(false); line("note", code === REVOKED ? text : `${text} Another one takes another signed URL.`); }),
  });
  conversation = current;
  pass = null;
}

function say(event) {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  conversation.say(text);
  line("own-line", text);
  $("text").value = "";
}

function talking(yes, longest) {
  for (const control of $("say").elements) control.disabled = !yes;
  if (yes) $("text").focus();
  $("remaining").hidden = !longest;
  if (longest) $("remaining").dataset.ends = Date.now() / 1000 + longest;
  countDown();
}

function countDown() {
  if (!$("remaining").hidden) $("remaining").textContent = `The gate ends it in ${until(Number($("remaining").dataset.ends))} at the latest.`;
}

function line(kind, text) {
  const item = document.createElement("li");
  item.className = kind;
  item.textContent = text;
  $("lines").append(item);
  $("talked").scrollTop = $("talked").scrollHeight;
}

// 6: as a visitor

async function visit() {
  $("visit").disabled = true;
  take(await asVisitor("guide"), "visited");
  $("visit").disabled = false;
  const { answer } = await ask("/xuna/agents");
  const limits = (answer.agents ?? []).flatMap(({ limits = [] }) => limits);
  $("left").replaceChildren(...limits.map(({ limit, left, most, unit }) => note(`${limit}: ${left} of ${most} ${unit} left`)));
}

function note(text) {
  const item = document.createElement("li");
  item.textContent = text;
  return item;
}

// 7: cheating

function cheat(id, attempt) {
  $(id).onclick = async () => {
    $(id).closest("li").querySelector("[role=status]").replaceChildren(answerBox(await attempt()));
  };
}

// A good way to the banker, and a first frame that says more than this page may say.
async function forgeFirstFrame() {
  const got = await signedUrl(token, "banker");
  if (!got.ok) return got;
  const forged = { ...got.answer, session: { dynamicVariables: FORGED } };
  return new Promise((resolve) => {
    const ended = (text, status, code) => resolve({ ok: false, status, answer: { code, detail: text } });
    new Conversation(forged, { ready() {}, said() {}, failed() {}, ended });
  });
}
