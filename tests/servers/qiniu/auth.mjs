// Who may do what. Nothing is computed here but with the official SDK's own functions: what it would have sent for the same
// request is compared with what was sent.
import { require } from '../common.mjs';

export const qiniu = require('qiniu');
const { util } = qiniu;

// An answer which is not a success.
export class QiniuError extends Error {
    constructor(status, message, headers = {}) {
        super(message);
        Object.assign(this, { status, code: String(status), headers });
    }
}

const hmac = (text, secret) => util.base64ToUrlSafe(util.hmacSha1(text, secret));

function secretOf(id, credentials) {
    const known = credentials.get(id);
    if (!known)
        throw new QiniuError(401, 'bad token');
    return known.secret;
}

// Authorization: Qiniu, of requests to rs, rsf and uc; the older QBox is not taken.
export function checkRequest(r, credentials) {
    const m = /^Qiniu ([^:]*):(.*)$/.exec(r.headers.get('authorization') ?? '');
    if (!m)
        throw new QiniuError(401, 'bad token');
    const own = util.generateAccessTokenV2(new qiniu.auth.digest.Mac(m[1], secretOf(m[1], credentials)),
        `http://${r.host}${r.rawPath}${r.rawQuery === '' ? '' : '?' + r.rawQuery}`, r.method, r.headers.get('content-type'),
        r.kept.toString('utf8'), Object.fromEntries(r.headers));
    if (own !== `Qiniu ${m[1]}:${m[2]}`)
        throw new QiniuError(401, 'bad token');
}

// An upload's token; returns its policy.
export function checkUpload(token, credentials, now_s, bucketName, key) {
    const [id, sign, encoded, ...more] = (token ?? '').split(':');
    if (!encoded || more.length || sign !== hmac(encoded, secretOf(id, credentials)))
        throw new QiniuError(401, 'bad token');
    const policy = JSON.parse(util.urlSafeBase64Decode(encoded));
    if (!(policy.deadline >= now_s))
        throw new QiniuError(401, 'expired token');
    const cut = policy.scope.indexOf(':');
    const bucket = cut < 0 ? policy.scope : policy.scope.slice(0, cut);
    if (bucketName !== undefined && bucket !== bucketName)
        throw new QiniuError(401, "bucket doesn't match with scope");
    if (cut >= 0 && policy.scope.slice(cut + 1) !== key)
        throw new QiniuError(403, "key doesn't match with scope");
    return { ...policy, bucket, fixed: cut >= 0 };
}

// A private download URL: its token is made of all that stands before it, as it was sent.
export function checkRead(r, scheme, credentials, now_s) {
    const url = `${scheme}://${r.host}${r.rawPath}?${r.rawQuery}`;
    const m = /^(.*[?&]e=(\d+))&token=([^:&]*):([^&]*)$/.exec(url);
    if (!m)
        throw new QiniuError(401, 'download token not specified');
    if (m[4] !== hmac(m[1], secretOf(m[3], credentials)))
        throw new QiniuError(401, 'download token auth failed');
    if (Number(m[2]) < now_s)
        throw new QiniuError(403, 'expired url');
}
