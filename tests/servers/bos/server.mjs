// A Baidu BOS server for tests on 127.0.0.1; every signature is checked by the official SDK (auth.mjs). See ../s3like/server.mjs; here is
// what only BOS does: its answers are JSON.
//
// Buckets answer at <bucket>.<region>.bcebos.com and, for any other host, at /<bucket>/.
import crypto from 'node:crypto';
import { CRC32C } from '../crc32c.mjs';
import { serve } from '../s3like/server.mjs';
import { StoreError } from '../s3like/errors.mjs';
import { pathStyle, sourceName } from '../s3like/skins.mjs';
import { toText } from '../store.mjs';
import { authenticate } from './auth.mjs';

const iso = ms => new Date(ms).toISOString();
const VIRTUAL = /^([a-z0-9-]+)\.([a-z]+)\.bcebos\.com$/;

const owner = { id: '10eb6f5ff6ff4605bf044313e8f3ffa5', displayName: 'BosTeam' };
const answered = o => ({ eTag: o.etag, lastModified: iso(o.modified) });
const documents = {
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
        throw new StoreError(400, 'MalformedJSON', 'The JSON you provided was not well-formed or did not validate.');
    return value;
}

// How the family calls what BOS writes so.
const PARAMETERS = { maxKeys: 'max-keys', maxParts: 'max-parts', partNumberMarker: 'part-number-marker', maxUploads: 'max-uploads', keyMarker: 'key-marker' };

await serve({
    env: 'BOS', server: 'BceBos', vendor: 'x-bce-', clockCode: 'RequestTimeTooSkewed', contentType: 'application/json; charset=utf-8',
    options: { region: 'bj', bucket: ['test-bucket'], cred: ['testAccessKeyId:testSecretKeyForTestsOnly'], min_part: 5 << 20, max_key: 1023 },
    classes: ['STANDARD', 'STANDARD_IA', 'COLD', 'ARCHIVE', 'MAZ_STANDARD', 'MAZ_STANDARD_IA', 'MAZ_COLD'], archived: ['ARCHIVE'],
    encryptions: ['AES256', 'KMS'],
    directives: ['copy', 'replace'], restoreDays: 'x-bce-restore-days',
    copySource: sourceName,
    regionless: true, removesOnlyWhatIs: true, classInRefusals: true, metaPrefixCounts: true,
    requestHeaders: id => ({ 'x-bce-request-id': id }),
    results: Object.fromEntries(Object.entries(documents).map(([what, make]) => [what, (...args) => JSON.stringify(make(...args))])),
    malformed: 'MalformedJSON',

    locate(host, path) {
        const virtual = VIRTUAL.exec(host);
        return virtual ? { bucketName: virtual[1], key: path.slice(1) } : pathStyle(path);
    },
    asked: sent => new Map([...sent].map(([name, value]) => [PARAMETERS[name] ?? name, value])),
    authenticate: (r, credentials, now_s) => authenticate({ ...r, query: r.sent }, credentials, now_s),
    keyFault: key => key.startsWith('/') ? new StoreError(400, 'InvalidObjectName', 'The specified object name is not valid.') : undefined,
    errorBody: (r, err, id) => JSON.stringify({ code: err.code, message: err.message, requestId: id }),
    crc32c: () => new CRC32C(),
    checksum: b => ({ 'x-bce-content-crc32c': String(b.crc32c) }),
    objectHeaders: () => ({ 'x-bce-object-type': 'Normal' }),
    completed: text => read(text, 'parts', p => Number.isInteger(p.partNumber) && typeof p.eTag === 'string').map(p => ({ number: p.partNumber, etag: p.eTag })),
    deleted: text => read(text, 'objects', o => typeof o.key === 'string' && o.key !== '').map(o => o.key),
    partsEtag: () => `-${crypto.randomBytes(16).toString('hex')}`,
    createOnly: r => r.headers.get('x-bce-forbid-overwrite') === 'true', overwriteRefused: [412, 'PreconditionFailed'],
});
