// A real OpenID provider for tests: node-oidc-provider, whose users are named by `login_hint` and confirm everything.
// node provider.mjs PORT REDIRECT_URI CLIENT CLIENT_SECRET
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const [port, redirectUri, client, secret] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const groups = { 'ann@example.com': ['builders'], 'root@example.com': ['admins'] };
let person = 'ann@example.com'; // who sits at the browser: POST /test/person

const provider = new Provider(issuer, {
  clients: [{
    client_id: client,
    client_secret: secret,
    redirect_uris: [redirectUri],
    grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
    response_types: ['code'],
    id_token_signed_response_alg: 'RS256',
  }],
  claims: { openid: ['sub'], email: ['email', 'email_verified', 'groups'] },
  features: { devInteractions: { enabled: false }, deviceFlow: { enabled: true } },
  cookies: { keys: ['a key of this test'] },
  pkce: { required: () => true },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: () => ({ sub, email: sub, email_verified: !sub.startsWith('unverified'), groups: groups[sub] ?? [] }),
  }),
  loadExistingGrant: async (ctx) => {
    const grant = new provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope('openid email');
    await grant.save();
    return grant;
  },
});

const answer = provider.callback();
createServer(async (request, response) => {
  if (request.url === '/test/person') {
    const parts = [];
    for await (const part of request) parts.push(part);
    person = Buffer.concat(parts).toString();
    response.end();
  } else if (request.url.startsWith('/interaction/')) {
    await provider.interactionFinished(request, response, { login: { accountId: person } });
  } else {
    answer(request, response);
  }
}).listen(Number(port), '127.0.0.1', () => console.log('ready'));
