// How a conversation ended, in words. The codes are the gate's; docs/relay.md has the whole table.

const WORDS = {
  1000: "The agent ended the conversation.",
  1001: "The gate is being stopped.",
  1003: "This page sent what is no text.",
  1009: "This page sent too large a frame.",
  1011: "The gate has a fault.",
  4400: "This page sent what may not be sent.",
  4401: "The access token has come to its end: sign in again.",
  4403: "This page sent what the agent doesn’t open to it.",
  4408: "Nothing came from this page for too long.",
  4410: "The time limit is reached.",
  4411: "An operator revoked you: the gate refuses you until you sign in again.",
  4412: "An operator ended the conversation.",
  4429: "This page sent too much in one second.",
  4502: "The platform refused or broke off.",
  4503: "The gate can’t be sure of its limits, or of your token, any more.",
  4504: "The platform took too long.",
};

export const REVOKED = 4411;

// The platform's own codes pass through the gate, and reach the page as they are.
export function ending(code, reason) {
  const words = WORDS[code] ?? "The connection was closed.";
  return code === 1000 ? words : `${words} (${[code, reason].filter(Boolean).join(" ")})`;
}
