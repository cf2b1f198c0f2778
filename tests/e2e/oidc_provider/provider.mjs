// A real OpenID provider for the tests: npm's oidc-provider, on a free loopback port.
//
// Says where it is in one line of JSON on its standard output once it listens, and ends when its
// standard input closes, so that it never outlives the test run that started it.
//
// A resource indicator `urn:audience:<algorithm>:<audience>` asks for a JWT access token (RFC 9068)
// for that plain audience, signed with that algorithm; `urn:audience:opaque:<audience>` asks for
// an opaque one, `urn:audience:brief:<audience>` for an opaque one that lives a second. Anybody can
// sign in under any name at its development login.
//
// Takes orders, one object of JSON a line on its standard input, and answers each with a line:
//   {"order": "rotate"}                        signs with new keys; the set keeps older ones, too
//   {"order": "jwks", "as": "well"|"down"|"slow"|"never"}     how the key set is answered for
//   {"order": "count"}                         how often the key set was asked for, and who waits
//
// PROVIDER_TLS names a folder with ca.pem, server.pem and server.key: then it also listens with TLS
// and takes client certificates there (RFC 8705), under the same issuer.
import { generateKeyPair, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

import { Provider, errors } from 'oidc-provider';

const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'];
const SCOPES = 'voice:talk voice:listen';
const LIFETIME = 600; // seconds
const SLOW = 1500; // milliseconds
const GENERATIONS = 3; // of keys in the set, the newest first: that one signs

const generate = promisify(generateKeyPair);
const exported = ({ privateKey }) => privateKey.export({ format: 'jwk' });
const secret = () => randomBytes(32).toString('base64url');

// No key says `alg`: one RSA key serves RS256 and PS256, one Ed25519 key serves both of its names.
async function newKeys() {
  const pairs = await Promise.all([
    generate('rsa', { modulusLength: 2048 }),
    generate('ec', { namedCurve: 'P-256' }),
    generate('ed25519'),
  ]);
  return pairs.map((pair) => ({ ...exported(pair), use: 'sig' }));
}

function resourceServer(indicator) {
  const [, form, audience] = /^urn:audience:([^:]+):(.+)$/.exec(indicator) ?? [];
  const common = { scope: SCOPES, audience, accessTokenTTL: LIFETIME };
  if (form === 'opaque') return { ...common, accessTokenFormat: 'opaque' };
  if (form === 'brief') return { ...common, accessTokenFormat: 'opaque', accessTokenTTL: 1 };
  if (!ALGORITHMS.includes(form)) throw new errors.InvalidTarget();
  return { ...common, accessTokenFormat: 'jwt', jwt: { sign: { alg: form } } };
}

const lifetimeOf = (_, token) => token.resourceServer?.accessTokenTTL ?? LIFETIME;

const machine = (members) => ({
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
  ...members,
});

const service = machine({ client_id: 'service', client_secret: secret() });

// The same service under other names: each proves who it is in another way, or binds its tokens.
const poster = machine({
  client_id: 'poster',
  client_secret: secret(),
  token_endpoint_auth_method: 'client_secret_post',
});

const signerKey = exported(await generate('ec', { namedCurve: 'P-256' }));
const signer = machine({
  client_id: 'signer',
  token_endpoint_auth_method: 'private_key_jwt',
  token_endpoint_auth_signing_alg: 'ES256',
  jwks: { keys: [{ ...signerKey, d: undefined }] },
});

const prover = machine({
  client_id: 'prover',
  client_secret: secret(),
  dpop_bound_access_tokens: true,
});

const holder = machine({
  client_id: 'holder',
  token_endpoint_auth_method: 'tls_client_auth',
  tls_client_auth_san_dns: 'holder.example.com',
  tls_client_certificate_bound_access_tokens: true,
});

const app = {
  client_id: 'app',
  application_type: 'native', // may be called back at a loopback address over http (RFC 8252)
  token_endpoint_auth_method: 'none',
  grant_types: ['authorization_code'],
  response_types: ['code'],
  redirect_uris: ['http://127.0.0.1/callback'],
};

const certificateOf = ({ req: { socket } }) => socket.getPeerX509Certificate?.()?.toString();

const configuration = {
  clients: [service, app, poster, signer, prover, holder],
  clientAuthMethods: [
    'client_secret_basic',
    'client_secret_post',
    'private_key_jwt',
    'tls_client_auth',
    'none',
  ],
  cookies: { keys: [secret()] },
  scopes: ['openid', ...SCOPES.split(' ')],
  ttl: {
    ...Object.fromEntries(['Grant', 'IdToken', 'Interaction', 'Session'].map((kind) => [kind, LIFETIME])),
    AccessToken: lifetimeOf,
    ClientCredentials: lifetimeOf,
  },
  findAccount: (_, name) => ({ accountId: name, claims: () => ({ sub: name }) }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    dPoP: {
      enabled: true,
      nonceSecret: randomBytes(32),
      requireNonce: (ctx) => ctx.oidc.client?.clientId === prover.client_id,
    },
    introspection: { enabled: true },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      tlsClientAuth: true,
      getCertificate: certificateOf,
      certificateAuthorized: ({ req: { socket } }) => socket.authorized === true,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_san_dns' &&
        ctx.req.socket.getPeerX509Certificate().checkHost(expected) === expected,
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, indicator) => resourceServer(indicator),
      useGrantedResource: () => true,
    },
    revocation: { enabled: true },
  },
};

let issuer;
let answer; // of the provider with the newest keys
let generations = [];

async function rotate() {
  generations = [await newKeys(), ...generations].slice(0, GENERATIONS);
  answer = new Provider(issuer, { ...configuration, jwks: { keys: generations.flat() } }).callback();
}

const jwks = { as: 'well', asked: 0, waiting: new Set() };

function serve(request, response) {
  if (request.url !== '/jwks') return answer(request, response);
  jwks.asked += 1;
  if (jwks.as === 'down') return response.writeHead(503).end();
  if (jwks.as === 'never') return wait(response);
  if (jwks.as === 'slow') return setTimeout(() => answer(request, response), SLOW);
  return answer(request, response);
}

function wait(response) {
  jwks.waiting.add(response);
  response.on('close', () => jwks.waiting.delete(response));
}

const orders = {
  rotate,
  jwks: ({ as }) => {
    jwks.as = as;
    for (const response of jwks.waiting) response.destroy();
  },
  count: () => ({ asked: jwks.asked, waiting: jwks.waiting.size }),
};

const listening = (server) =>
  new Promise((resolve) => {
    server.on('request', serve).listen(0, '127.0.0.1', () => resolve(server.address().port));
  });

async function listeningWithTls(folder) {
  const file = (name) => readFileSync(join(folder, name));
  const files = { ca: file('ca.pem'), cert: file('server.pem'), key: file('server.key') };
  const asking = { requestCert: true, rejectUnauthorized: false };
  return `https://127.0.0.1:${await listening(createTlsServer({ ...files, ...asking }))}`;
}

const say = (words) => console.log(JSON.stringify(words));

issuer = `http://127.0.0.1:${await listening(createServer())}`;
await rotate();
const tls = process.env.PROVIDER_TLS && (await listeningWithTls(process.env.PROVIDER_TLS));
say({ issuer, tls, service, app, poster, signer: { ...signer, key: signerKey }, prover, holder });

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  say((await orders[order.order](order)) ?? {});
}
process.exit(0);
