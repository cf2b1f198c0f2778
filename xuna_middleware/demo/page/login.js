// Signing in: authorization code with PKCE (RFC 7636), from the page to the provider and back.

const KEPT = "xuna-demo-sign-in"; // in sessionStorage while the provider has the browser, no longer

// Leave for the provider. `config` is /demo/config.
export async function leave(config) {
  const verifier = random(32);
  const state = random(16);
  sessionStorage.setItem(KEPT, JSON.stringify({ verifier, state }));
  location.assign(`${config.authorization_endpoint}?${new URLSearchParams({
    response_type: "code",
    client_id: config.client_id,
    redirect_uri: config.redirect_uri,
    scope: config.scope,
    resource: config.audience,
    prompt: "login",
    state,
    code_challenge: await challenge(verifier),
    code_challenge_method: "S256",
  })}`);
}

// Back from the provider: the access token, or null when nobody has been there.
export async function comeBack(config) {
  const answer = new URLSearchParams(location.search);
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  sessionStorage.removeItem(KEPT);
  history.replaceState(null, "", location.pathname); // the code leaves the address bar
  if (!answer.has("state")) return null;
  if (!kept || answer.get("state") !== kept.state) throw new Error("This answer belongs to no sign-in of this page.");
  if (answer.has("iss") && answer.get("iss") !== config.issuer) throw new Error("Another provider answered.");
  if (!answer.has("code")) throw new Error("The provider did not sign anybody in.");
  return redeem(config, answer.get("code"), kept.verifier);
}

async function redeem(config, code, verifier) {
  const response = await fetch(config.token_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      client_id: config.client_id,
      redirect_uri: config.redirect_uri,
      resource: config.audience,
      code,
      code_verifier: verifier,
    }),
  });
  if (!response.ok) throw new Error("The provider did not take the code.");
  return (await response.json()).access_token;
}

async function challenge(verifier) {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
}

function random(bytes) {
  return base64url(crypto.getRandomValues(new Uint8Array(bytes)));
}

export function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
