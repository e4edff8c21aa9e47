// Who may do what, and by what each kind of credentials is judged:
//
//   a service account's token   wholly by Google's own library (google-auth-library): its JWTAccess makes the token anew for the
//                               same claims and time, and both must be the same bytes (RS256 has no randomness)
//   V4 signed URLs              wholly by the SDK: its URLSigner signs anew
//   GOOG4-HMAC-SHA256 headers   no SDK of Google's for node signs so. The canonical request is made of the SDK signer's own pieces
//                               (headers, query, resource path, the whole) from the decoded request; the string to sign and
//                               the chain of keys around it are written here from Google's description of HMAC signatures
import crypto from 'node:crypto';
import { require } from '../common.mjs';
import { StoreError } from '../s3like/errors.mjs';

export const { Storage } = require('@google-cloud/storage');
export const { JWTAccess } = require(require.resolve('google-auth-library'));
const { URLSigner } = require(require.resolve('@google-cloud/storage').replace(/index\.js$/, 'signer.js'));
const { encodeURI: encode } = require(require.resolve('@google-cloud/storage').replace(/index\.js$/, 'util.js'));
const storage = new Storage({ projectId: 'test', credentials: { client_email: 'nobody@example.com', private_key: 'none' } });

export const AUDIENCE = 'https://storage.googleapis.com/';
const hmac = (key, text) => crypto.createHmac('sha256', key).update(text).digest();
const time = text => Date.parse(text.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z')) / 1000;
const signer = (auth, r) => new URLSigner(auth, { name: r.bucketName, storage }, r.key ? { name: r.key } : undefined, storage);
const mismatch = what => new StoreError(403, 'SignatureDoesNotMatch', `The request signature we calculated does not match the signature you provided (${what}).`);

// The path, as the SDK writes it: "/bucket/key", or "/key" where the bucket stands in the host's name. A slash behind a bucket, which the
// SDK never sends, is signed when it is sent.
function resourcePath(s, r) {
    return s.getResourcePath(r.inHost, r.bucketName, r.key ? encode(r.key, false) : '') + (slashBehindBucket(r) ? '/' : '');
}
const slashBehindBucket = r => !r.inHost && r.key === '' && r.rawPath.endsWith('/');

export function hmacSignature(r, id, secret, scope, date, signedHeaders) {
    const s = signer(null, r);
    const canonicalHeaders = signedHeaders.split(';').map(name => s.getCanonicalHeaders({ [name]: r.headers.get(name) })).join('');
    const canonical = s.getCanonicalRequest(r.method, resourcePath(s, r), s.getCanonicalQueryParams(Object.fromEntries(r.query)), canonicalHeaders,
        signedHeaders, r.headers.get('x-goog-content-sha256'));
    const [day, region, service, terminator] = scope.split('/');
    const key = [region, service, terminator].reduce(hmac, hmac(`GOOG4${secret}`, day));
    const text = ['GOOG4-HMAC-SHA256', date, scope, crypto.createHash('sha256').update(canonical).digest('hex')].join('\n');
    return hmac(key, text).toString('hex');
}

function checkHmac(r, credentials, now_s) {
    const m = /^GOOG4-HMAC-SHA256 Credential=([^/]+)\/(\d{8}\/[^/]+\/storage\/goog4_request), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/
        .exec(r.headers.get('authorization'));
    if (!m)
        throw new StoreError(400, 'InvalidArgument', 'Invalid Authorization header.');
    const [, id, scope, names, signature] = m, date = r.headers.get('x-goog-date') ?? '';
    const known = credentials.get(id);
    if (!known)
        throw new StoreError(403, 'InvalidSecurity', 'The provided security credentials are not valid.');
    if (!(Math.abs(time(date) - now_s) <= 900))
        throw new StoreError(403, 'RequestTimeTooSkewed', 'The difference between the request time and the current time is too large.');
    const list = names.split(';');
    if (list.join() !== [...list].sort().join() || list.some(n => !r.headers.has(n)) || !date.startsWith(scope.slice(0, 8)))
        throw mismatch('SignedHeaders');
    if (hmacSignature(r, id, known.secret, scope, date, names) !== signature)
        throw mismatch('Signature');
    for (const name of ['host', ...[...r.headers.keys()].filter(n => n.startsWith('x-goog-'))])
        if (!list.includes(name))
            throw mismatch(`${name} is not signed`);
    if (list.includes('accept-encoding'))
        throw mismatch('accept-encoding is rewritten on the way');
}

// What the front end knows of the payload can only be told when it is there.
export function checkBody(r) {
    const hash = r.headers.get('x-goog-content-sha256');
    if (r.bodyText !== '' && hash && hash !== 'UNSIGNED-PAYLOAD' && crypto.createHash('sha256').update(r.bodyText).digest('hex') !== hash)
        throw new StoreError(400, 'XAmzContentSHA256Mismatch', 'The provided x-goog-content-sha256 header does not match what was computed.');
    const text = /crc32c=([^,]+)/.exec(r.headers.get('x-goog-hash') ?? '');
    if (text && Buffer.from(text[1], 'base64').readUInt32BE(0) !== r.body.crc32c)
        throw new StoreError(400, 'BadDigest', 'The CRC32C you specified did not match what we received.');
}

const refusedToken = why => new StoreError(401, 'AuthenticationRequired', `Authentication required: ${why}.`);
const judged = new Map();

// At that time, what Google's library would have sent.
function officialToken(account, claims) {
    const realNow = Date.now;
    Date.now = () => claims.iat * 1000;
    try {
        const access = new JWTAccess(account.client_email, account.private_key, account.private_key_id);
        return access.getRequestHeaders(claims.aud, undefined, claims.scope).Authorization;
    } finally {
        Date.now = realNow;
    }
}

function checkToken(r, account, now_s) {
    const header = r.headers.get('authorization');
    if (!judged.has(header)) {
        let claims;
        try {
            claims = JSON.parse(Buffer.from(header.slice(7).split('.')[1], 'base64url').toString());
        } catch {
            throw refusedToken('not a token');
        }
        if (!(claims.aud === AUDIENCE || (claims.scope ?? '').startsWith('https://www.googleapis.com/auth/')))
            throw refusedToken('wrong audience');
        if (officialToken(account, claims) !== header)
            throw refusedToken('not signed by this account');
        judged.set(header, claims);
    }
    const { iat, exp } = judged.get(header);
    if (now_s < iat || now_s >= exp || exp - iat > 3600)
        throw refusedToken('must be a short-lived token of this time');
}

async function urlSignature(r, account, config) {
    const auth = { getCredentials: async () => account, sign: async text => crypto.sign('sha256', Buffer.from(text), account.private_key).toString('base64') };
    return (await signer(auth, r).getSignedUrlV4(config))['X-Goog-Signature'];
}

async function checkUrl(r, account, now_s) {
    const q = Object.fromEntries(r.query), from_s = time(q['X-Goog-Date'] ?? '');
    if (!(now_s >= from_s - 900 && now_s < from_s + Number(q['X-Goog-Expires'])))
        throw new StoreError(400, 'ExpiredToken', 'The provided token has expired.');
    const extensionHeaders = Object.fromEntries(q['X-Goog-SignedHeaders'].split(';').filter(n => n !== 'host').map(n => [n, r.headers.get(n)]));
    const queryParams = Object.fromEntries(Object.entries(q).filter(([n]) => !n.startsWith('X-Goog-')));
    const hostname = new URL(`http://${r.host}`).hostname;
    const own = await urlSignature(r, account, { method: r.method, bucket: r.bucketName, file: r.key ? encode(r.key, false) : undefined, queryParams,
        extensionHeaders, host: `http://${hostname}`, cname: r.inHost ? `http://${hostname}` : undefined,
        accessibleAt: new Date(from_s * 1000), expiration: from_s + Number(q['X-Goog-Expires']) });
    if (own !== q['X-Goog-Signature'] || slashBehindBucket(r))
        throw mismatch('X-Goog-Signature');
}

export async function authenticate(r, credentials, account, now_s) {
    const header = r.headers.get('authorization') ?? '';
    if (header.startsWith('GOOG4-'))
        return checkHmac(r, credentials, now_s);
    if (header.startsWith('Bearer '))
        return checkToken(r, account, now_s);
    if (r.query.has('X-Goog-Signature'))
        return checkUrl(r, account, now_s);
    throw new StoreError(401, 'AuthenticationRequired', 'Authentication required.');
}
