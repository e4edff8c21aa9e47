// Who may do what. The signatures are computed by the official SDK's own signer, for the request as it was received.
import { require } from '../common.mjs';
import { StoreError } from '../s3like/errors.mjs';

export const OSS = require('ali-oss');
const signer = require('ali-oss/lib/common/signUtils.js');

// The parameters which take part in a V1 signature; the SDK is told them by its caller.
const SUBRESOURCES = ['acl', 'append', 'continuation-token', 'delete', 'encryption', 'lifecycle', 'location', 'objectMeta', 'partNumber',
    'position', 'response-cache-control', 'response-content-disposition', 'response-content-encoding', 'response-content-language',
    'response-content-type', 'response-expires', 'restore', 'security-token', 'sequential', 'symlink', 'tagging', 'uploadId', 'uploads',
    'versionId', 'versions', 'versioning', 'x-oss-process', 'x-oss-traffic-limit'];
const SKEW_S = 900;

const refuse = (status, code, message, extra = {}) => new StoreError(status, code, message, extra);

function known(id, credentials, r) {
    const found = credentials.get(id);
    if (!found)
        throw refuse(403, 'InvalidAccessKeyId', 'The OSS Access Key Id you provided does not exist in our records.');
    const token = r.headers.get('x-oss-security-token') ?? r.query.get('security-token');
    if (found.expired)
        throw refuse(403, 'SecurityTokenExpired', 'The security token you provided has expired.');
    if ((found.token ?? '') !== (token ?? ''))
        throw refuse(403, 'InvalidSecurityToken', 'The security token you provided is invalid.');
    return found;
}

function checkClock(request_s, now_s, code) {
    if (!(Math.abs(request_s - now_s) <= SKEW_S))
        throw refuse(403, code, 'The difference between the request time and the current time is too large.', {
            RequestTime: new Date(request_s * 1000 || 0).toISOString(), ServerTime: new Date(now_s * 1000).toISOString(),
            MaxAllowedSkewMilliseconds: SKEW_S * 1000 });
}

function compare(given, own) {
    if (given !== own)
        throw refuse(403, 'SignatureDoesNotMatch', 'The request signature we calculated does not match the signature you provided. '
            + 'Check your key and signing method.', { SignatureProvided: given });
}

function v1(r, header, credentials, now_s, skewCode) {
    const m = /^OSS ([^:]+):(\S+)$/.exec(header);
    if (!m)
        throw refuse(400, 'InvalidArgument', 'Authorization header is invalid.');
    const { secret } = known(m[1], credentials, r);
    const headers = Object.fromEntries(r.headers), date = headers['x-oss-date'] ?? headers.date;
    if (!date)
        throw refuse(403, 'AccessDenied', 'OSS authentication requires a valid Date.');
    checkClock(Date.parse(date) / 1000, now_s, skewCode);
    const parameters = Object.fromEntries([...r.query].filter(([name]) => SUBRESOURCES.includes(name)));
    const resource = r.bucketName ? `/${r.bucketName}/${r.key}` : '/';
    const text = signer.buildCanonicalString(r.method, resource, { headers, parameters }, date);
    compare(header, signer.authorization(m[1], secret, text));
}

function v4(r, header, credentials, now_s, skewCode) {
    const m = /^OSS4-HMAC-SHA256 Credential=([^/,]+)\/(\d{8})\/([^/]+)\/oss\/aliyun_v4_request,\s*(?:AdditionalHeaders=([^,]*),\s*)?Signature=([0-9a-f]{64})$/
        .exec(header);
    if (!m)
        throw refuse(400, 'InvalidArgument', 'Authorization header is invalid.');
    const [, id, day, region, additional] = m;
    const { secret } = known(id, credentials, r);
    const date = r.headers.get('x-oss-date') ?? '';
    const at = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date);
    if (!at || date.slice(0, 8) !== day)
        throw refuse(400, 'InvalidArgument', 'x-oss-date is invalid.');
    checkClock(Date.parse(`${at[1]}-${at[2]}-${at[3]}T${at[4]}:${at[5]}:${at[6]}Z`) / 1000, now_s, skewCode);
    if (r.headers.get('x-oss-content-sha256') !== 'UNSIGNED-PAYLOAD')
        throw refuse(400, 'InvalidArgument', 'x-oss-content-sha256 must be UNSIGNED-PAYLOAD.');
    if (r.signingRegion && region !== r.signingRegion)
        throw refuse(400, 'InvalidArgument', 'Invalid signing region in Authorization header.');
    const names = additional ? additional.split(';') : [];
    const absent = names.find(n => !r.headers.has(n));
    if (absent)
        throw refuse(400, 'InvalidArgument', `The additional header ${absent} was not sent.`);
    // A parameter without a value is one without "=" in what is signed, however it is sent.
    const queries = Object.fromEntries([...r.query].map(([name, value]) => [name, value === '' ? null : value]));
    const own = signer.authorizationV4(id, secret, region, r.method, { headers: Object.fromEntries(r.headers), queries },
        r.bucketName || undefined, r.key || undefined, names);
    compare(header.replace(/,\s+/g, ','), own);
}

// As ../s3like/server.mjs wants it. r: method, headers and query (Map, decoded), bucketName, key, signingRegion.
export function authenticate(r, credentials, now_s, skewCode) {
    const header = r.headers.get('authorization');
    if (header === undefined)
        throw refuse(403, 'AccessDenied', 'You have no right to access this object because of bucket acl.');
    (header.startsWith('OSS4-') ? v4 : v1)(r, header, credentials, now_s, skewCode);
}
