// An OpenID Connect provider that is not of our making, on a free loopback port.
//
// node oidc_provider.mjs CLIENT REDIRECT_URI, with the client's secret in CLIENT_SECRET. Prints its
// URL once it answers. Whoever types a name is that person; whose name begins with "un" has an
// address that is not verified.
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const [clientId, redirectUri] = process.argv.slice(2);
const server = createServer();

server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: clientId,
        client_secret: process.env.CLIENT_SECRET,
        redirect_uris: [redirectUri],
        response_types: ['code'],
        grant_types: ['authorization_code'],
      },
    ],
    claims: { email: ['email', 'email_verified'], profile: ['name'] },
    pkce: { required: () => true },
    findAccount: (_context, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        name: `${id} of Node`,
        email: `${id}@example.org`,
        email_verified: !id.startsWith('un'),
      }),
    }),
    // Its pages to sign in with, which ask for no password, have a form to an http address.
    features: { devInteractions: { enabled: true } },
  });
  server.on('request', provider.callback());
  console.log(`ready ${issuer}`);
});
