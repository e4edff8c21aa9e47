// Who may do what. The signature is not computed here: the official SDK's Auth signs anew what was received, and its own
// encoding makes the path of it.
import path from 'node:path';
import { require } from '../common.mjs';
import { StoreError } from '../s3like/errors.mjs';

const sources = path.join(path.dirname(require.resolve('@baiducloud/sdk/package.json')), 'src');
export const Auth = require(path.join(sources, 'auth.js'));
const { normalize } = require(path.join(sources, 'strings.js'));

const VALID_S = 900;

export function authenticate(r, credentials, now_s) {
    const m = /^bce-auth-v1\/([^/]+)\/([^/]+)\/(\d+)\/([^/]*)\/([0-9a-f]{64})$/.exec(r.headers.get('authorization') ?? '');
    if (!m)
        throw new StoreError(403, 'AccessDenied', 'Anonymous access is not allowed.');
    const [, id, date, valid, list] = m;
    const known = credentials.get(id);
    if (!known)
        throw new StoreError(403, 'InvalidAccessKeyId', 'The Access Key ID you provided does not exist in our records.');
    const token = r.headers.get('x-bce-security-token');
    if ((known.token ?? '') !== (token ?? ''))
        throw new StoreError(403, 'InvalidSessionToken', 'The session token is missing or wrong.');
    const time_s = Date.parse(date) / 1000;
    if (!(Math.abs(time_s - now_s) <= VALID_S))
        throw new StoreError(403, 'RequestTimeTooSkewed', 'The difference between the request time and the server time is too large.');
    if (now_s > time_s + Number(valid))
        throw new StoreError(400, 'RequestExpired', 'Request has expired.');

    const names = list === '' ? [] : list.split(';');
    const headers = Object.fromEntries([...r.headers].filter(([n]) => n !== 'authorization'));
    // The SDK signs every header of Baidu's own that it is given, so one that is sent and not listed is a mismatch.
    const own = new Auth(id, known.secret).generateAuthorization(r.method, normalize(r.path, false), Object.fromEntries(r.query), headers, time_s,
        Number(valid), names);
    const wanted = list === '' ? own.replace(/\/[^/]*\/([0-9a-f]{64})$/, '//$1') : own;
    if (wanted !== m[0])
        throw new StoreError(403, 'SignatureDoesNotMatch', 'The request signature we calculated does not match the signature you provided.');
    if (list !== '' && !names.includes('host'))
        throw new StoreError(403, 'SignatureDoesNotMatch', 'The Host header is not signed.');
}
