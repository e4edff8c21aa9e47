// Who may do what. KSS: the official SDK's signer (ks3 0.5.2) is asked for the request as it was received. It cannot be asked for
// every request: it has no place for a Content-MD5 header (it computes one of its own out of the body), and it sorts whole header
// lines where the newer SDKs sort by name, which differs where a name goes on with "-" after another (x-kss-copy-source and
// x-kss-copy-source-range or -if-match). In those two cases the text to sign is put together here by the rule of the recorded requests
// (tests/vectors/ks3.json; selftest.mjs holds this rule against all of them), and the SDK makes the signature of it. Signature
// version 4: AWS's own signer.
import { require } from '../common.mjs';
import { StoreError } from '../s3like/errors.mjs';

export const KS3 = require('ks3');
const signer = require('ks3/lib/auth.js');
const { SignatureV4 } = require('@smithy/signature-v4');
const { Sha256 } = require('@aws-crypto/sha256-js');

const SUBRESOURCES = ['acl', 'append', 'delete', 'encryption', 'location', 'partNumber', 'policy', 'position', 'response-cache-control',
    'response-content-disposition', 'response-content-encoding', 'response-content-language', 'response-content-type', 'response-expires',
    'restore', 'security-token', 'symlink', 'tagging', 'uploadId', 'uploads', 'versionId', 'versioning', 'versions'];
const SKEW_S = 900;

const refuse = (status, code, message) => new StoreError(status, code, message);

function known(id, credentials, token) {
    const found = credentials.get(id);
    if (!found)
        throw refuse(403, 'InvalidAccessKeyId', 'The KSS Access Key Id you provided does not exist in our records.');
    if (found.expired)
        throw refuse(403, 'ExpiredToken', 'The provided token has expired.');
    if ((found.token ?? '') !== (token ?? ''))
        throw refuse(403, 'InvalidToken', 'The provided token is wrong.');
    return found;
}

function checkClock(request_s, now_s, code) {
    if (!(Math.abs(request_s - now_s) <= SKEW_S))
        throw refuse(403, code, 'The difference between the request time and the current time is too large.');
}

function compare(given, own) {
    if (given !== own)
        throw refuse(403, 'SignatureDoesNotMatch', 'The request signature we calculated does not match the signature you provided.');
}

// The text to sign by the rule of the recorded requests.
export function textToSign(method, headers, resource) {
    const lines = Object.keys(headers).filter(n => n.startsWith('x-kss-')).sort().map(n => `${n}:${headers[n]}\n`).join('');
    return `${method}\n${headers['content-md5'] ?? ''}\n${headers['content-type'] ?? ''}\n${headers.date ?? ''}\n${lines}${resource}`;
}

// Whether the SDK's own signer can be asked.
export function sdkCan(headers) {
    const names = Object.keys(headers).filter(n => n.startsWith('x-kss-'));
    return headers['content-md5'] === undefined && !names.some(n => names.some(other => other.startsWith(`${n}-`)));
}

export function kssAuthorization(id, secret, method, headers, resource) {
    if (!sdkCan(headers))
        return `KSS ${id}:${signer.getSignature(secret, textToSign(method, headers, resource))}`;
    return signer.generateAuth(id, secret, { method, uri: 'http://x/', type: headers['content-type'] ?? '', date: headers.date ?? '', headers, resource });
}

function kss(r, header, credentials, now_s, skewCode) {
    const m = /^KSS ([^:]+):(\S+)$/.exec(header);
    if (!m)
        throw refuse(400, 'InvalidArgument', 'Authorization header is invalid.');
    const { secret } = known(m[1], credentials, r.headers.get('x-kss-security-token'));
    checkClock(Date.parse(r.headers.get('date')) / 1000, now_s, skewCode);
    const signed = [...r.query].filter(([name]) => SUBRESOURCES.includes(name)).sort(([a], [b]) => a < b ? -1 : 1)
        .map(([name, value]) => value === '' ? name : `${name}=${value}`).join('&');
    // The path counts as it came; KS3's own clients send the second of two slashes encoded.
    if (r.rawPath.includes('//'))
        throw refuse(403, 'SignatureDoesNotMatch', 'A double slash is not encoded.');
    const path = r.bucketName && !r.pathStyle ? `/${r.bucketName}${r.rawPath}` : r.rawPath;
    compare(header, kssAuthorization(m[1], secret, r.method, Object.fromEntries(r.headers), path + (signed && `?${signed}`)));
}

async function aws4(r, header, credentials, now_s, skewCode) {
    const m = /^AWS4-HMAC-SHA256 Credential=([^/,]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, SignedHeaders=([^,]+), Signature=[0-9a-f]{64}$/.exec(header);
    const date = r.headers.get('x-amz-date') ?? '';
    const at = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date);
    if (!m || !at)
        throw refuse(400, 'AuthorizationHeaderMalformed', 'Authorization or x-amz-date is invalid.');
    const [, id, , region, names] = m;
    const token = r.headers.get('x-amz-security-token');
    const { secret } = known(id, credentials, token);
    const signingDate = new Date(`${at[1]}-${at[2]}-${at[3]}T${at[4]}:${at[5]}:${at[6]}Z`);
    checkClock(signingDate / 1000, now_s, skewCode);
    const headers = {};
    for (const name of names.split(';'))
        if (name !== 'x-amz-date' && name !== 'x-amz-security-token')
            headers[name] = r.headers.get(name) ?? '';
    const unsigned = [...r.headers.keys()].find(n => n.startsWith('x-amz-') && !names.split(';').includes(n));
    if (unsigned || !names.split(';').includes('host'))
        throw refuse(403, 'SignatureDoesNotMatch', `The header ${unsigned ?? 'host'} is not signed.`);
    const own = await new SignatureV4({ service: 's3', region, sha256: Sha256, uriEscapePath: false, applyChecksum: false,
        credentials: { accessKeyId: id, secretAccessKey: secret, ...(token && { sessionToken: token }) } })
        .sign({ method: r.method, hostname: r.host, path: r.rawPath, query: Object.fromEntries(r.query), headers },
            { signingDate, signableHeaders: new Set(names.split(';')) });
    compare(header, own.headers.authorization);
}

// As ../s3like/server.mjs wants it.
export async function authenticate(r, credentials, now_s, skewCode) {
    const header = r.headers.get('authorization');
    if (header === undefined)
        throw refuse(403, 'AccessDenied', 'Access Denied');
    await (header.startsWith('AWS4-') ? aws4 : kss)(r, header, credentials, now_s, skewCode);
}
