// A real OpenID provider for the tests: npm's oidc-provider, on a free loopback port.
//
// Says where it is in one line of JSON on its standard output once it listens, and ends when its
// standard input closes, so that it never outlives the test run that started it.
//
// A resource indicator `urn:audience:<algorithm>:<audience>` asks for a JWT access token (RFC 9068)
// for that plain audience, signed with that algorithm; `urn:audience:opaque:<audience>` asks for
// an opaque one. Anybody can sign in under any name at its development login.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';

import { Provider, errors } from 'oidc-provider';

const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'];
const SCOPES = 'voice:talk voice:listen';
const LIFETIME = 600; // seconds

const secret = () => randomBytes(32).toString('base64url');

// No key says `alg`: one RSA key serves RS256 and PS256, one Ed25519 key serves both of its names.
const keys = () =>
  [
    generateKeyPairSync('rsa', { modulusLength: 2048 }),
    generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    generateKeyPairSync('ed25519'),
  ].map(({ privateKey }) => ({ ...privateKey.export({ format: 'jwk' }), use: 'sig' }));

function resourceServer(indicator) {
  const [, form, audience] = /^urn:audience:([^:]+):(.+)$/.exec(indicator) ?? [];
  const common = { scope: SCOPES, audience, accessTokenTTL: LIFETIME };
  if (form === 'opaque') return { ...common, accessTokenFormat: 'opaque' };
  if (!ALGORITHMS.includes(form)) throw new errors.InvalidTarget();
  return { ...common, accessTokenFormat: 'jwt', jwt: { sign: { alg: form } } };
}

const service = {
  client_id: 'service',
  client_secret: secret(),
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
};

const app = {
  client_id: 'app',
  application_type: 'native', // may be called back at a loopback address over http (RFC 8252)
  token_endpoint_auth_method: 'none',
  grant_types: ['authorization_code'],
  response_types: ['code'],
  redirect_uris: ['http://127.0.0.1/callback'],
};

const configuration = {
  clients: [service, app],
  jwks: { keys: keys() },
  cookies: { keys: [secret()] },
  scopes: ['openid', ...SCOPES.split(' ')],
  ttl: Object.fromEntries(
    ['AccessToken', 'ClientCredentials', 'Grant', 'IdToken', 'Interaction', 'Session'].map((kind) => [kind, LIFETIME]),
  ),
  findAccount: (_, name) => ({ accountId: name, claims: () => ({ sub: name }) }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, indicator) => resourceServer(indicator),
      useGrantedResource: () => true,
    },
  },
};

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  server.on('request', new Provider(issuer, configuration).callback());
  console.log(JSON.stringify({ issuer, service, app }));
});
process.stdin.on('end', () => process.exit(0)).resume();
