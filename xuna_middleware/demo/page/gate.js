// Asking the gate, honestly and otherwise. A token goes into a header here and nowhere else.

import { base64url } from "./login.js";

// One request: {ok, status, answer, reference}; answer is the JSON, a problem (RFC 9457) if refused.
export async function ask(path, token, body) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method: body ? "POST" : "GET",
    headers,
    body: body && JSON.stringify(body),
    cache: "no-store",
    credentials: "omit",
  });
  const answer = await response.json().catch(() => ({ title: response.statusText }));
  return { ok: response.ok, status: response.status, answer, reference: response.headers.get("Xuna-Gate-Ref") };
}

export function signedUrl(token, agent, extra = {}) {
  return ask("/xuna/get-signed-url", token, { agent, ...extra });
}

export function conversationToken(token, agent) {
  return ask("/xuna/conversation-token", token, { agent });
}

// The same token with more in it than the provider put there. The signature no longer fits.
export function tampered(token) {
  const [header, payload, signature] = token.split(".");
  const bytes = Uint8Array.from(atob(payload.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const raised = { ...JSON.parse(new TextDecoder().decode(bytes)), plan: "enterprise", scope: "voice:talk voice:admin" };
  return [header, base64url(new TextEncoder().encode(JSON.stringify(raised))), signature].join(".");
}
