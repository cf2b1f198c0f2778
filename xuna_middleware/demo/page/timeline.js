// What the gate decided, as it decides: Server-Sent Events, newest first, the last hundred.

import { $, copy, fill } from "./pieces.js";

const KEEP = 100;
const TITLES = {
  verified: "Caller verified",
  authorized: "Rule said yes",
  reserved: "Limits reserved",
  released: "Given back",
  settled: "True length settled",
  ticket_issued: "Ticket issued, good once",
  started: "Conversation begins",
  ended: "Conversation is over",
  revoked: "Person revoked",
  refused: "Refused",
};

// Follow /demo/events, and tell `heard` each. EventSource comes back by itself and says which event
// it had last.
export function follow(heard) {
  const source = new EventSource("/demo/events");
  source.onopen = () => say("live", true);
  source.onerror = () => say(source.readyState === EventSource.CLOSED ? "closed" : "reconnecting", false);
  source.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    show(event);
    heard(event);
  };
  new IntersectionObserver(([{ isIntersecting: seen }]) => $("latest").classList.toggle("seen", seen))
    .observe($("timeline"));
}

function say(text, on) {
  $("live").textContent = text;
  $("live").classList.toggle("on", on);
}

function show(event) {
  $("timeline-empty").hidden = true;
  if (!repeated(event)) $("timeline").prepend(row(event));
  while ($("timeline").children.length > KEEP) $("timeline").lastElementChild.remove();
  $("latest").hidden = false;
  $("latest").classList.remove("issued", ...Object.keys(TITLES));
  $("latest").classList.add(event.name);
  const said = event.code ? `Refused: ${event.status} ${event.code}` : title(event);
  $("latest").querySelector("b").textContent = said;
  if (isFresh(event)) $("announced").textContent = said; // what came before this page is not read out
}

function isFresh({ time }) {
  return Date.now() / 1000 - time < 3;
}

// One caller who is verified again and again, with nothing decided between, is one row with a count.
function repeated({ name, subject }) {
  const top = $("timeline").firstElementChild;
  if (name !== "verified" || top?.dataset.verified !== subject) return false;
  top.dataset.times = Number(top.dataset.times ?? 1) + 1;
  top.querySelector("b").textContent = `Caller verified, ${top.dataset.times} times`;
  return true;
}

function row(event) {
  const item = copy("decision-row");
  const at = new Date(event.time * 1000);
  if (event.name === "verified") item.dataset.verified = event.subject;
  item.classList.add(event.name, ...(isFresh(event) ? ["fresh"] : []));
  item.querySelector("b").textContent = title(event);
  item.querySelector("time").textContent = at.toLocaleTimeString([], { hour12: false });
  item.querySelector("time").dateTime = at.toISOString();
  fill(item.querySelector("dl"), details(event));
  return item;
}

function title({ name, transport }) {
  if (name === "issued") return `${transport === "webrtc" ? "Token" : "Signed URL"} issued`;
  return TITLES[name] ?? name.replaceAll("_", " ");
}

function details(event) {
  return {
    who: event.subject ?? "nobody known",
    answer: event.status && `${event.status} ${event.code}`,
    agent: event.agent,
    rule: event.rule,
    limits: event.name === "reserved" && event.limits.join(", "),
    close: event.close_code?.toString(),
    length: event.seconds !== undefined && `${event.seconds.toFixed(1)} s`,
    names: [...(event.variables ?? []), ...(event.overrides ?? [])].join(", "),
    call: event.conversation_id,
    cause: event.cause,
    reference: event.reference,
  };
}
