// The page: what a click does, and what is to be seen after it.

import { answerBox } from "./answers.js";
import { Conversation } from "./conversation.js";
import { ask, asVisitor, conversationToken, signedUrl, tampered } from "./gate.js";
import { comeBack, leave } from "./login.js";
import { follow } from "./timeline.js";

const $ = (id) => document.getElementById(id);
let token = null; // the access token: in this variable only, in no storage and on no screen
let pass = null; // the signed URL that waits for its one use
let conversation = null;

const config = await (await fetch("/demo/config")).json();
follow();
showPeople();
showAgents();
await arrive();
listen();

async function arrive() {
  try {
    token = await comeBack(config);
    if (token) await showWho();
  } catch (error) {
    token = null;
    $("problem").textContent = `Not signed in. ${error.message}`;
    $("problem").hidden = false;
  }
}

function listen() {
  for (const id of ["sign-in", "sign-in-again"]) enable(id, () => leave(config));
  $("get-signed-url").onclick = () => get(signedUrl);
  $("conversation-token").onclick = () => get(conversationToken);
  enable("visit", visit);
  $("start").onclick = start;
  $("end").onclick = () => conversation.end();
  $("say").onsubmit = say;
  const forged = { dynamic_variables: { plan_name: "enterprise" } };
  cheat("cheat-variable", () => signedUrl(token, agent(), forged));
  cheat("cheat-none", () => signedUrl(null, agent()));
  cheat("cheat-token", () => signedUrl(tampered(token), agent()));
}

function enable(id, click) {
  $(id).disabled = false;
  $(id).onclick = click;
}

// 1: who

function showPeople() {
  for (const { name, about } of config.people) {
    const row = copy("person-row");
    row.querySelector("b").textContent = name;
    row.querySelector("span").textContent = about;
    $("people").append(row);
  }
}

async function showWho() {
  const me = await ask("/api/me", token);
  if (!me.ok) throw new Error(me.answer.detail);
  const { name, plan, may_talk: mayTalk } = me.answer;
  $("name").textContent = name;
  $("face").textContent = name[0];
  $("standing").textContent = `Plan: ${plan}. ${mayTalk ? "Has" : "Lacks"} the scope ${config.talk_scope}.`;
  $("signed-out").hidden = $("sign-in-first").hidden = true;
  $("signed-in").hidden = false;
  for (const id of ["get-signed-url", "conversation-token", "cheat-variable", "cheat-token"]) $(id).disabled = false;
  await markAgents();
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
  const { title } = config.agents.find(({ name }) => name === pass.agent);
  const mine = (act) => (text) => current === conversation && act(text); // the last one's words come late
  const current = new Conversation(pass, {
    ready: mine(() => { talking(true); line("note", `Connected: ${title}, a sandbox agent`); }),
    said: mine((text) => line("agent-line", text)),
    failed: mine((text) => line("note", text)),
    ended: mine((text) => { talking(false); line("note", `${text} Another one takes another signed URL.`); }),
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

function talking(yes) {
  for (const control of $("say").elements) control.disabled = !yes;
  if (yes) $("text").focus();
}

function line(kind, text) {
  const item = document.createElement("li");
  item.className = kind;
  item.textContent = text;
  $("lines").append(item);
  $("talked").scrollTop = $("talked").scrollHeight;
}

// 5: as a visitor

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

// 6: cheating

function cheat(id, attempt) {
  $(id).onclick = async () => {
    $(id).closest("li").querySelector("[role=status]").replaceChildren(answerBox(await attempt()));
  };
}

function copy(template) {
  return $(template).content.firstElementChild.cloneNode(true);
}
