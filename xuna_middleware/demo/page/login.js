// Signing in: authorization code with PKCE (RFC 7636), from the page to the provider and back.

const KEPT = "xuna-demo-sign-in"; // in sessionStorage while the provider has the browser, no longer

// Leave for the provider. `config` is /demo/config.
export async function leave(config) {
  const verifier = random(32);
  const state = random(16);
  const { authorization_endpoint: door } = await discover(config.issuer);
  sessionStorage.setItem(KEPT, JSON.stringify({ verifier, state }));
  location.assign(`${door}?${new URLSearchParams({
    response_type: "code",
    client_id: config.client_id,
    redirect_uri: here(),
    scope: config.scope,
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
  const { token_endpoint: counter } = await discover(config.issuer);
  const response = await fetch(counter, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      client_id: config.client_id,
      redirect_uri: here(),
      code,
      code_verifier: verifier,
    }),
  });
  if (!response.ok) throw new Error("The provider did not take the code.");
  return (await response.json()).access_token;
}

// Where the provider sends people back to: the window's own view. It knows both addresses.
function here() {
  return location.origin + location.pathname;
}

// The provider's endpoints, from its own document (OpenID Connect Discovery).
async function discover(issuer) {
  const metadata = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
  if (metadata.issuer !== issuer) throw new Error("The provider says it is another.");
  return metadata;
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
