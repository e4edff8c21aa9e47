// Who may do what. The signature is not computed here: the official SDK's own signer is asked what it would have sent for
// the same method, path, date and Content-MD5, so that a client is never its own judge.
import { require } from '../common.mjs';
import { UpyunError } from './errors.mjs';

export const upyun = require('upyun');

const VALID_S = 1800;

// operators: name -> { password }. request: method, target (path and query as on the request line), headers (Map).
// Returns the operator.
export function authenticate(request, operators, now_s) {
    const { headers } = request;
    const header = headers.get('authorization');
    if (header === undefined)
        throw new UpyunError(401, 40100004, 'need authorization header');
    const m = /^upyun ([^:]+):(.+)$/i.exec(header);
    if (!m)
        throw new UpyunError(401, 40100003, 'unknown realm in authorization header');
    const date = headers.get('x-date') ?? headers.get('date');
    if (date === undefined)
        throw new UpyunError(401, 40100001, 'need date header');
    const time = Date.parse(date) / 1000;
    if (Number.isNaN(time) || new Date(time * 1000).toUTCString() !== date)
        throw new UpyunError(401, 40100016, 'invalid date value in header');
    if (Math.abs(time - now_s) > VALID_S)
        throw new UpyunError(401, 40100002, 'date offset error');
    const known = operators.get(m[1]);
    if (!known)
        throw new UpyunError(401, 40100006, 'user not exists');
    const wanted = upyun.sign.genSign(new upyun.Service('any', m[1], known.password),
        { method: request.method, path: request.target, date, contentMd5: headers.get('content-md5') });
    if (wanted.slice(wanted.indexOf(' ')) !== header.slice(header.indexOf(' ')))
        throw new UpyunError(401, 40100005, 'signature error');
    return m[1];
}
