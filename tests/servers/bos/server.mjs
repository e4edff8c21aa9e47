// A Baidu BOS server for tests on 127.0.0.1; every signature is checked by the official SDK (auth.mjs).
//
//   node server.mjs --dir DIR [--port N] [--control N] [--log FILE] [--ready FILE] [--bucket NAME …] [--cred ID:SECRET[:TOKEN] …]
//        [--region bj] [--min-part 5M] …       see rest.mjs, also for log, faults and control port
//
// Buckets answer at <bucket>.<region>.bcebos.com and, for any other host, at /<bucket>/; there too below /v1, as the SDK writes it.
import crypto from 'node:crypto';
import { Refusal, iso, percentDecode, serve, toText } from '../rest.mjs';
import { authenticate } from './auth.mjs';

const VIRTUAL = /^([a-z0-9-]+)\.([a-z]+)\.bcebos\.com$/;

const owner = { id: '10eb6f5ff6ff4605bf044313e8f3ffa5', displayName: 'BosTeam' };
const answered = o => ({ eTag: o.etag, lastModified: iso(o.modified) });
const results = {
    list: (r, p) => ({ name: p.bucket.name, prefix: toText(p.prefix), delimiter: toText(p.delimiter), marker: toText(p.marker), maxKeys: p.max,
        isTruncated: p.truncated, ...(p.truncated && { nextMarker: toText(p.next) }),
        contents: p.objects.map(o => ({ key: toText(o.key), lastModified: iso(o.modified), eTag: o.etag, size: o.body.size, storageClass: o.storageClass, owner })),
        commonPrefixes: p.prefixes.map(prefix => ({ prefix: toText(prefix) })) }),
    copy: answered,
    part: answered,
    begin: (r, uploadId) => ({ bucket: r.bucketName, key: r.key, uploadId }),
    complete: (r, o) => ({ location: `http://${r.host}${r.rawPath}`, bucket: r.bucketName, key: r.key, eTag: o.etag }),
    parts: (r, p) => ({ bucket: r.bucketName, key: r.key, uploadId: r.query.get('uploadId'), initiated: iso(p.upload.initiated), owner, partNumberMarker: p.marker,
        nextPartNumberMarker: p.next, maxParts: p.max, isTruncated: p.truncated,
        parts: p.parts.map(x => ({ partNumber: x.number, lastModified: iso(x.modified), eTag: x.etag, size: x.body.size })) }),
    uploads: (r, p) => ({ bucket: r.bucketName, prefix: toText(p.prefix), keyMarker: toText(p.keyMarker), maxUploads: p.max, isTruncated: p.truncated,
        ...(p.truncated && { nextKeyMarker: toText(p.last.byteKey) }),
        uploads: p.uploads.map(u => ({ key: toText(u.byteKey), uploadId: u.id, initiated: iso(u.initiated), owner })) }),
};

function read(text, field, row) {
    let value;
    try {
        value = JSON.parse(text)[field];
    } catch {
        value = undefined;
    }
    if (!Array.isArray(value) || value.length > 10000 || !value.every(row))
        throw new Refusal(400, 'MalformedJSON', 'The JSON you provided was not well-formed or did not validate.');
    return value;
}

await serve({
    name: 'bos', env: 'BOS', vendor: 'x-bce-', requestId: 'x-bce-request-id', contentType: 'application/json; charset=utf-8', sse: 'server-side-encryption',
    options: { cred: ['testAccessKeyId:testSecretKeyForTestsOnly'], region: 'bj', max_key: 1023 },
    announced: opt => ({ BOS_REGION: opt.region }),
    classes: ['STANDARD', 'STANDARD_IA', 'COLD', 'ARCHIVE', 'MAZ_STANDARD', 'MAZ_STANDARD_IA', 'MAZ_COLD'], archived: ['ARCHIVE'],
    params: { max: 'maxKeys', partMarker: 'partNumberMarker' },
    malformed: 'MalformedJSON', partCopy: true,

    locate(r) {
        const virtual = VIRTUAL.exec(r.host.replace(/:\d+$/, '').toLowerCase());
        r.path = percentDecode(r.rawPath);
        const [, bucketName, ...rest] = r.path.split('/');
        return virtual ? { bucketName: virtual[1], key: r.path.slice(1) } : { bucketName, key: rest.join('/') };
    },
    authenticate,
    checkKey(key) {
        if (key.startsWith('/'))
            throw new Refusal(400, 'InvalidObjectName', 'The specified object name is not valid.');
    },
    error: (r, err, id) => JSON.stringify({ code: err.code, message: err.message, requestId: id }),
    headers: o => ({ 'x-bce-content-crc32c': String(o.crc32c), ...(o.body && { 'x-bce-object-type': 'Normal' }) }),
    completeHeaders: o => ({ 'x-bce-content-crc32c': String(o.crc32c) }),
    result: (what, ...args) => JSON.stringify(results[what](...args)),
    completed: text => read(text, 'parts', p => Number.isInteger(p.partNumber) && typeof p.eTag === 'string').map(p => ({ number: p.partNumber, etag: p.eTag })),
    deleted: text => read(text, 'objects', o => typeof o.key === 'string' && o.key !== '').map(o => o.key),
    deletes: () => ({ status: 200 }),
    composite: () => `-${crypto.randomBytes(16).toString('hex')}`,
    absent: r => r.headers.get('x-bce-forbid-overwrite') === 'true',
    metaBytes: (name, value) => 'x-bce-meta-'.length + name.length + Buffer.byteLength(value),
});
