// The gate's answers in words: what was handed out without the secret in it, or why not.

import { clock, copy, fill } from "./pieces.js";

// What `ask` of gate.js returned, as a piece of the page.
export function answerBox({ ok, status, answer, reference, wait }) {
  const again = wait && `in ${wait} seconds`;
  if (!ok) return box(`${status} ${answer.code ?? answer.title ?? ""}`, answer.detail ?? "", { again, reference }, "refused");
  if (answer.transport !== "websocket") return tokenBox(answer);
  return isRelayed(answer) ? relayBox(answer) : signedUrlBox(answer);
}

// Whether a signed URL leads to the gate itself, which then carries the conversation.
export function isRelayed({ signed_url: url }) {
  return new URL(url).host === location.host;
}

function relayBox(answer) {
  const text = "It leads to the gate itself, with a ticket for one use and nothing else in it. The gate carries the conversation, below.";
  return box("Signed URL received", text, {
    ...common(answer, "WebSocket, through the gate"),
    names: "the gate adds them, out of this page’s sight",
  });
}

function signedUrlBox(answer) {
  const text = "The page keeps it to itself. It opens one conversation, below.";
  return box("Signed URL received", text, {
    ...common(answer, "WebSocket"),
    names: withNames(answer.session, "carried by this page"),
  });
}

function tokenBox(answer) {
  const text = "For WebRTC clients (React, iOS, Android). This page talks over the WebSocket, so it stops here.";
  return box("Conversation token received", text, {
    ...common(answer, "WebRTC"),
    names: withNames(answer.session, "carried by this page") || "with the platform already, none in this page",
  });
}

function common({ agent, start_by: startBy, conversation_id: call }, transport) {
  const expires = startBy ? `at ${clock(startBy)} if unused` : "soon; the platform does not say when";
  return { transport, agent, expires, call };
}

function withNames({ dynamicVariables = {}, overrides = {} } = {}, where) {
  const names = [...Object.keys(dynamicVariables), ...paths(overrides)];
  return names.length ? `${names.join(", ")}; ${where}` : "";
}

function paths(tree, above = "") {
  return Object.entries(tree).flatMap(([name, value]) =>
    value && typeof value === "object" ? paths(value, `${above}${name}.`) : [`${above}${name}`]);
}

export function box(heading, text, pairs = {}, kind = "granted") {
  const piece = copy("answer-box");
  piece.classList.add(kind);
  piece.querySelector("b").textContent = heading;
  piece.querySelector("p").textContent = text;
  fill(piece.querySelector("dl"), pairs);
  return piece;
}
