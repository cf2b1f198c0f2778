// The gate's answers in words: what was handed out without the secret in it, or why not.

import { fill } from "./timeline.js";

// What `ask` of gate.js returned, as a piece of the page.
export function answerBox({ ok, status, answer, reference, wait }) {
  const again = wait && `in ${wait} seconds`;
  if (!ok) return box(`${status} ${answer.code ?? answer.title ?? ""}`, answer.detail ?? "", { again, reference }, "refused");
  return answer.transport === "websocket" ? signedUrlBox(answer) : tokenBox(answer);
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
  const expires = startBy ? `at ${new Date(startBy * 1000).toLocaleTimeString([], { hour12: false })} if unused` : "soon; the platform does not say when";
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

function box(heading, text, pairs, kind = "granted") {
  const piece = document.getElementById("answer-box").content.firstElementChild.cloneNode(true);
  piece.classList.add(kind);
  piece.querySelector("b").textContent = heading;
  piece.querySelector("p").textContent = text;
  fill(piece.querySelector("dl"), pairs);
  return piece;
}
