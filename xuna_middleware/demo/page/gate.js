// Asking the gate, honestly and otherwise. A token goes into a header here and nowhere else.

import { base64url } from "./login.js";
import { solve } from "./work.js";

// One request: {ok, status, answer, reference, challenge}; answer is the JSON, a problem (RFC 9457)
// if refused. The visitor's cookie comes along by itself; the gate asks where the request is from.
export async function ask(path, token, { body, solution, method = body ? "POST" : "GET" } = {}) {
  const headers = {};
  if (solution) headers["Xuna-Challenge"] = solution;
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method,
    headers,
    body: body && JSON.stringify(body),
    cache: "no-store",
    credentials: "same-origin",
  });
  const answer = await response.json().catch(() => ({ title: response.statusText }));
  const told = (name) => response.headers.get(name);
  return { ok: response.ok, status: response.status, answer, reference: told("Xuna-Gate-Ref"), challenge: told("Xuna-Challenge"), wait: told("Retry-After") };
}

// Nobody signed in: where the gate sets a challenge, do the work and ask again.
export async function asVisitor(agent) {
  const first = await signedUrl(null, agent);
  if (first.answer.code !== "challenge_required") return first;
  return ask("/xuna/get-signed-url", null, { body: { agent }, solution: await solve(first.challenge) });
}

export function signedUrl(token, agent, extra = {}) {
  return ask("/xuna/get-signed-url", token, { body: { agent, ...extra } });
}

export function conversationToken(token, agent) {
  return ask("/xuna/conversation-token", token, { body: { agent } });
}

// The same token with more in it than the provider put there. The signature no longer fits.
export function tampered(token) {
  const [header, payload, signature] = token.split(".");
  const bytes = Uint8Array.from(atob(payload.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const raised = { ...JSON.parse(new TextDecoder().decode(bytes)), plan: "enterprise", scope: "voice:talk voice:admin" };
  return [header, base64url(new TextEncoder().encode(JSON.stringify(raised))), signature].join(".");
}
