// A COS server for tests on 127.0.0.1. It answers as the provider's protocol says, is strict where a client may be wrong,
// and has every signature checked by the official SDK (auth.mjs).
//
//   node server.mjs --dir DIR [--port N] [--control N] [--log FILE] [--ready FILE] [--region ap-test]
//        [--bucket NAME[@REGION] …] [--cred ID:SECRET[:TOKEN] …]
//        [--max-put 5G] [--max-part 5G] [--max-copy 5G] [--min-part 1M] [--max-parts 10000] [--max-meta 2048] [--max-key 850]
//        [--restore-ms 1000] [--accelerate]
//
// Buckets answer at <bucket>.cos.<region>.myqcloud.com (also cos-internal, tencentcos.cn; the port is ignored) and, for any
// other host, at /<bucket>/. DIR receives bodies over 1 MiB and is emptied at the start.
//
// Log: one JSON object a request: start_ms end_ms method path query status req_bytes res_bytes op bucket key body
// [code] [fault] [aborted]. `body` says whether object bytes crossed the wire, in either direction. Status 0: no answer.
//
// Control port (common.mjs has the matching of faults):
//   POST /_ctl/fault {op, method, key, path, query, skip, count, action, …}    GET, DELETE /_ctl/faults
//     delay       ms
//     hold                               until the rule is taken away
//     status      status (503), code (SlowDown), message, headers    answer so; nothing is applied
//     status_after  the same             apply, then answer so
//     lost                               apply, then reset the connection
//     late        ms (500), [status …]   reset (or answer status) at once, apply later; ms -1: when the rule is taken away
//     reset                              reset the connection; nothing is applied
//     cut         bytes (1000)           reset after so many bytes of the request's body
//     blackhole                          never answer; nothing is applied
//     error200    code (InternalError)   200 with an <Error> body; nothing is applied
//     keepalive   ms (1000), [code]      200 at once, blanks, then the XML (or an <Error> and nothing applied)
//     truncate    bytes (1000)           close after so many bytes of the answer's body
//     stall       bytes (1000)           stop there and keep the connection
//     corrupt     offset (0)             flip one bit of the answer's body there
//     wrong_etag                         apply, but answer with another ETag and CRC64
//   POST   /_ctl/cred {id, secret, token, expired}  add or change one; what is left out stays. expired: its token is refused
//   POST   /_ctl/clock {offset_s, code}  shift the server's clock; code of the refusal (AccessDenied, RequestTimeTooSkewed)
//   GET    /_ctl/uploads                 open multipart uploads with their parts
//   GET    /_ctl/objects/BUCKET[?prefix=] every object: key size etag md5 crc64 headers meta storage_class modified
//   GET    /_ctl/stat/BUCKET/KEY[?field=NAME]  one of them; with field= (md5, size, headers.content-type, meta.mtime …) as plain text
//   GET PUT DELETE /_ctl/object/BUCKET/KEY  bytes; PUT takes x-cos-meta-* and standard headers, ?opaque=N for a multipart ETag
//   PUT    /_ctl/bucket/BUCKET[@REGION]  DELETE the same, with all it holds
//   POST   /_ctl/set {name: value}       change a limit above (max_put, restore_ms …)
//   GET    /_ctl/ready                   POST /_ctl/quit
import crypto from 'node:crypto';
import { options, RequestLog, Faults, controlServer, listen, announce, operation, sleep } from '../common.mjs';
import { storeRoutes } from '../control.mjs';
import { byteRange, engine } from '../engine.mjs';
import { Body, BodyWriter, Bucket, combine, toBytes, toText, useDirectory } from '../store.mjs';
import { authenticate } from './auth.mjs';
import { CosError } from './errors.mjs';
import * as xml from './xml.mjs';

const { el } = xml;
const GIB = 1024 ** 3;
const SMALL_BODY = 2 << 20;
const opt = options({
    dir: '', port: 0, control: 0, log: '', ready: '', region: 'ap-test', bucket: ['test-1250000000'],
    cred: ['AKIDtestTESTtestTEST:testSecretKeyForTestsOnly'],
    max_put: 5 * GIB, max_part: 5 * GIB, max_copy: 5 * GIB, min_part: 1048576, max_parts: 10000, max_meta: 2048, max_key: 850,
    restore_ms: 1000, accelerate: false,
});

const STANDARD_HEADERS = ['cache-control', 'content-disposition', 'content-encoding', 'content-language', 'content-type', 'expires'];
const STORAGE_CLASSES = ['STANDARD', 'STANDARD_IA', 'INTELLIGENT_TIERING', 'ARCHIVE', 'DEEP_ARCHIVE', 'MAZ_STANDARD',
    'MAZ_STANDARD_IA', 'MAZ_INTELLIGENT_TIERING', 'MAZ_ARCHIVE'];
const WANT_RESTORE = ['ARCHIVE', 'DEEP_ARCHIVE', 'MAZ_ARCHIVE'];
const NOT_HERE = ['acl', 'cors', 'lifecycle', 'policy', 'tagging', 'replication', 'website', 'inventory', 'logging', 'versions', 'domain'];
const OWNER = el('Owner', el('ID', 'qcs::cam::uin/100000000001:uin/100000000001'), el('DisplayName', '100000000001'));

useDirectory(opt.dir);
const log = new RequestLog(opt.log);
const faults = new Faults(['status', 'status_after', 'lost', 'late', 'reset', 'cut', 'blackhole', 'error200', 'keepalive',
    'truncate', 'stall', 'corrupt', 'wrong_etag']);
const buckets = new Map();
const credentials = new Map(opt.cred.map(c => {
    const [id, secret, token] = c.split(':');
    return [id, { secret, token }];
}));
const clock = { offset_s: 0, code: 'AccessDenied' };
const now = () => Date.now() + clock.offset_s * 1000;

function makeBucket(spec) {
    const [name, region] = spec.split('@');
    const bucket = new Bucket(name, region ?? opt.region);
    buckets.set(name, bucket);
    return bucket;
}
opt.bucket.forEach(makeBucket);

// ---- requests

function percentDecode(text) {
    if (/%(?![0-9A-Fa-f]{2})/.test(text))
        throw new CosError(400, 'InvalidURI', 'Bad percent-encoding.');
    const key = Buffer.from(text.replace(/%(..)/g, (_, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1');
    const decoded = key.toString('utf8');
    if (!Buffer.from(decoded, 'utf8').equals(key))
        throw new CosError(400, 'InvalidURI', 'The path or a parameter is not UTF-8.');
    return decoded;
}

function parseQuery(text) {
    const query = new Map();
    for (const pair of text === '' ? [] : text.split('&')) {
        const cut = pair.indexOf('=');
        const name = percentDecode(cut < 0 ? pair : pair.slice(0, cut));
        // Half the world reads a bare plus as a blank. A client must not leave it to the server.
        if (pair.includes('+'))
            throw new CosError(400, 'InvalidURI', 'A plus sign in a parameter is ambiguous.');
        if (query.has(name))
            throw new CosError(400, 'InvalidArgument', `The parameter ${name} is given twice.`);
        query.set(name, cut < 0 ? '' : percentDecode(pair.slice(cut + 1)));
    }
    return query;
}

const VIRTUAL = /^([a-z0-9][a-z0-9-]*-\d+)\.cos(-internal)?\.([a-z0-9-]+)\.(?:myqcloud\.com|tencentcos\.cn)$/;

// Which bucket a request speaks of, and under which path.
function locate(host, path) {
    host = host.replace(/:\d+$/, '').toLowerCase();
    const virtual = VIRTUAL.exec(host);
    if (virtual)
        return { bucketName: virtual[1], region: virtual[3], key: path.slice(1) };
    if (host.startsWith('service.cos.'))
        return { bucketName: '', key: '' };
    const [, bucketName, ...rest] = path.split('/');
    return { bucketName, key: rest.join('/') };
}

function understand(r) {
    r.path = percentDecode(r.rawPath);
    r.query = parseQuery(r.rawQuery);
    Object.assign(r, locate(r.host, r.path));
    r.byteKey = toBytes(r.key);
    r.op = operation(r.method, r.bucketName, r.key, n => r.query.has(n), r.headers.has('x-cos-copy-source'));
}

function bucketOf(r) {
    const bucket = buckets.get(r.bucketName);
    if (r.region === 'accelerate' && bucket) {
        if (!opt.accelerate)
            throw new CosError(400, 'BucketAccelerateNotEnabled', 'Acceleration is not enabled for this bucket.');
        return bucket;
    }
    if (!bucket || (r.region && r.region !== bucket.region))
        throw new CosError(404, 'NoSuchBucket', 'The specified bucket does not exist.');
    return bucket;
}

function checkKey(r) {
    if (r.byteKey.length > opt.max_key)
        throw new CosError(400, 'KeyTooLong', `The key is longer than ${opt.max_key} bytes.`);
    if (/[\x18-\x1b]/.test(r.byteKey))
        throw new CosError(400, 'InvalidArgument', 'The key holds a control character which is not allowed.');
}

// ---- objects

const quoted = etag => `"${etag}"`;
const unquoted = etag => etag.trim().replace(/^"(.*)"$/, '$1');

// What a request says of the object it makes.
function description(r) {
    const headers = {}, meta = {};
    let metaBytes = 0;
    for (const [name, value] of r.headers) {
        if (STANDARD_HEADERS.includes(name) && value !== '')
            headers[name] = value;
        if (name.startsWith('x-cos-meta-')) {
            meta[name.slice(11)] = value;
            metaBytes += name.length - 11 + Buffer.byteLength(value);
        }
    }
    if (metaBytes > opt.max_meta)
        throw new CosError(400, 'MetadataTooLarge', `User metadata of ${metaBytes} bytes is over ${opt.max_meta}.`);
    return { headers, meta, ...placement(r) };
}

function placement(r) {
    const storageClass = r.headers.get('x-cos-storage-class') ?? 'STANDARD';
    if (!STORAGE_CLASSES.includes(storageClass))
        throw new CosError(400, 'InvalidStorageClass', `Unknown storage class ${storageClass}.`);
    const sse = r.headers.get('x-cos-server-side-encryption') ?? '';
    if (!['', 'AES256', 'cos/kms'].includes(sse))
        throw new CosError(400, 'InvalidArgument', `Unknown encryption ${sse}.`);
    if (r.headers.has('x-cos-server-side-encryption-customer-algorithm'))
        throw new CosError(501, 'NotImplemented', 'SSE-C is not part of this server.');
    return { storageClass, sse };
}

function replyHeaders(object) {
    const h = {
        'content-type': 'application/octet-stream',
        ...object.headers,
        'ETag': quoted(object.etag),
        'Last-Modified': new Date(object.modified).toUTCString(),
        'x-cos-hash-crc64ecma': String(object.crc64),
    };
    for (const [name, value] of Object.entries(object.meta))
        h[`x-cos-meta-${name}`] = Buffer.from(value, 'utf8').toString('latin1');
    if (object.storageClass !== 'STANDARD')
        h['x-cos-storage-class'] = object.storageClass;
    if (object.sse)
        h['x-cos-server-side-encryption'] = object.sse;
    if (object.restoreUntil)
        h['x-cos-restore'] = restored(object) ? `ongoing-request="false", expiry-date="${new Date(object.restoreUntil).toUTCString()}"`
            : 'ongoing-request="true"';
    return h;
}

const restored = object => object.restoreReady !== undefined && Date.now() >= object.restoreReady;
const frozen = object => WANT_RESTORE.includes(object.storageClass) && !restored(object);

function objectOf(bucket, byteKey) {
    const object = bucket.objects.get(byteKey);
    if (!object)
        throw new CosError(404, 'NoSuchKey', 'The specified key does not exist.');
    return object;
}

function mayOverwrite(r, bucket) {
    if (r.headers.get('x-cos-forbid-overwrite') === 'true' && bucket.objects.has(r.byteKey))
        throw new CosError(409, 'FileAlreadyExists', 'The object exists and must not be overwritten.');
}

const matches = (list, etag) => list.trim() === '*' || list.split(',').some(e => unquoted(e) === etag);

// The four conditions, under `prefix` for the source of a copy. Returns false for "304".
function checkConditions(r, object, prefix = '') {
    const get = name => r.headers.get(prefix + name);
    const seconds = Math.floor(object.modified / 1000) * 1000;
    const failed = () => new CosError(412, 'PreconditionFailed', 'A condition of the request does not hold.');
    if (get('if-match') !== undefined && !matches(get('if-match'), object.etag))
        throw failed();
    if (get('if-match') === undefined && get('if-unmodified-since') !== undefined && seconds > Date.parse(get('if-unmodified-since')))
        throw failed();
    if (get('if-none-match') !== undefined && matches(get('if-none-match'), object.etag))
        return false;
    return !(get('if-none-match') === undefined && get('if-modified-since') !== undefined && seconds <= Date.parse(get('if-modified-since')));
}

function parseRange(text, size) {
    const range = byteRange(text, size);
    if (range === undefined)
        throw new CosError(416, 'InvalidRange', 'The requested range cannot be satisfied.', {}, { 'Content-Range': `bytes */${size}` });
    return range;
}

function checkMd5(r) {
    const text = r.headers.get('content-md5');
    if (text === undefined)
        return;
    const given = Buffer.from(text, 'base64');
    if (given.length !== 16 || given.toString('base64') !== text)
        throw new CosError(400, 'InvalidDigest', 'The Content-MD5 you specified is not valid.');
    if (given.toString('hex') !== r.body.md5)
        throw new CosError(400, 'BadDigest', 'The Content-MD5 you specified did not match what we received.');
}

function limitSize(size, limit, what) {
    if (size > limit)
        throw new CosError(400, 'EntityTooLarge', `${what} of ${size} bytes is over ${limit}.`);
}

// <bucket>.<endpoint>/<encoded key>: the bucket and object named, whatever the region.
function copySource(r) {
    const text = r.headers.get('x-cos-copy-source');
    const bad = message => new CosError(400, 'InvalidArgument', `x-cos-copy-source: ${message}`);
    const cut = text.indexOf('/');
    if (cut <= 0)
        throw bad('no key');
    if (/[^\x21-\x7e]/.test(text) || text.includes('+'))
        throw bad('not percent-encoded');
    const host = text.slice(0, cut).toLowerCase();
    const [rawKey, ...version] = text.slice(cut + 1).split('?');
    if (version.length)
        throw bad('versions are not part of this server');
    const virtual = VIRTUAL.exec(host.replace(/:\d+$/, ''));
    const dot = host.indexOf('.');
    // Without a COS name, the endpoint has to be the one this request came to.
    const here = r.host.toLowerCase();
    if (!virtual && (dot < 0 || host.slice(dot + 1) !== here))
        throw bad(`${host} is not <bucket>.<endpoint>`);
    const bucket = buckets.get(virtual ? virtual[1] : host.slice(0, dot));
    if (!bucket || (virtual && virtual[3] !== bucket.region))
        throw new CosError(404, 'NoSuchBucket', 'The bucket of the copy source does not exist.');
    const byteKey = toBytes(percentDecode(rawKey));
    const object = objectOf(bucket, byteKey);
    if (!checkConditions(r, object, 'x-cos-copy-source-'))
        throw new CosError(412, 'PreconditionFailed', 'A condition on the copy source does not hold.');
    if (frozen(object))
        throw new CosError(403, 'InvalidObjectState', 'The source is archived; restore it first.');
    return { bucket, byteKey, object };
}

// ---- multipart

function uploadOf(r, bucket) {
    const upload = bucket.uploads.get(r.query.get('uploadId'));
    if (!upload || upload.byteKey !== r.byteKey)
        throw new CosError(404, 'NoSuchUpload', 'The specified multipart upload does not exist.');
    return upload;
}

function partNumber(r) {
    const n = Number(r.query.get('partNumber'));
    if (!Number.isInteger(n) || n < 1 || n > opt.max_parts)
        throw new CosError(400, 'InvalidArgument', `partNumber must be 1 to ${opt.max_parts}.`);
    return n;
}

function setPart(upload, number, part) {
    upload.parts.get(number)?.body.drop();
    upload.parts.set(number, part);
}

function readXml(r) {
    try {
        return xml.parse(r.kept.toString('utf8'));
    } catch (err) {
        throw new CosError(400, 'MalformedXML', `The XML you provided is not well-formed: ${err.message}`);
    }
}

// Percent-encoded as far as %XX goes; a plus sign stays one, which a decoder of forms would turn into a blank.
const listEncoded = bytes => bytes.replace(/[^A-Za-z0-9\-_.~+*]/g, c => '%' + c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0'));

function encoder(r) {
    const type = r.query.get('encoding-type');
    if (type !== undefined && type !== 'url')
        throw new CosError(400, 'InvalidArgument', 'encoding-type must be url.');
    return type ? listEncoded : toText;
}

function count(r, name, fallback = 1000) {
    const text = r.query.get(name);
    if (text === undefined || text === '')
        return fallback;
    if (!/^\d+$/.test(text))
        throw new CosError(400, 'InvalidArgument', `${name} is not a number.`);
    return Math.min(Number(text), 1000);
}

const iso = ms => new Date(ms).toISOString();
const xmlReply = (root, headers = {}, status = 200) => ({ status, headers: { 'Content-Type': 'application/xml', ...headers }, body: Buffer.from(xml.document(root)) });

// ---- operations: each takes the request, its bucket, and applies itself when called

const operations = {
    GetService() {
        return xmlReply(el('ListAllMyBucketsResult', OWNER, el('Buckets', [...buckets.values()].map(b =>
            el('Bucket', el('Name', b.name), el('Location', b.region), el('CreationDate', iso(b.created)), el('BucketType', 'cos'))))));
    },

    HeadBucket(r, bucket) {
        return { status: 200, headers: { 'x-cos-bucket-region': bucket.region } };
    },

    GetBucket(r, bucket) {
        if (r.query.has('location'))
            return xmlReply(el('LocationConstraint', bucket.region));
        if (r.query.has('versioning'))
            return xmlReply(el('VersioningConfiguration'));
        const encode = encoder(r);
        const get = name => toBytes(r.query.get(name) ?? '');
        const max = count(r, 'max-keys');
        const page = bucket.list(get('prefix'), get('delimiter'), get('marker'), max);
        return xmlReply(el('ListBucketResult',
            el('Name', bucket.name),
            r.query.has('encoding-type') ? el('EncodingType', 'url') : undefined,
            el('Prefix', encode(get('prefix'))),
            el('Marker', encode(get('marker'))),
            el('MaxKeys', max),
            get('delimiter') ? el('Delimiter', encode(get('delimiter'))) : undefined,
            el('IsTruncated', page.truncated),
            page.truncated ? el('NextMarker', encode(page.next)) : undefined,
            page.keys.map(key => {
                const o = bucket.objects.get(key);
                return el('Contents', el('Key', encode(key)), el('LastModified', iso(o.modified)), el('ETag', quoted(o.etag)),
                    el('Size', o.body.size), OWNER, el('StorageClass', o.storageClass));
            }),
            page.prefixes.map(p => el('CommonPrefixes', el('Prefix', encode(p))))));
    },

    DeleteBucket(r, bucket) {
        if (bucket.objects.size || bucket.uploads.size)
            throw new CosError(409, 'BucketNotEmpty', 'The bucket you tried to delete is not empty.');
        buckets.delete(bucket.name);
        return { status: 204 };
    },

    HeadObject(r, bucket) {
        return operations.GetObject(r, bucket);
    },

    GetObject(r, bucket) {
        const object = objectOf(bucket, r.byteKey);
        if (!checkConditions(r, object))
            return { status: 304, headers: { ETag: quoted(object.etag) } };
        if (r.method === 'GET' && frozen(object))
            throw new CosError(403, 'InvalidObjectState', 'The object is archived; restore it first.');
        const headers = { ...replyHeaders(object), 'Accept-Ranges': 'bytes' };
        for (const name of STANDARD_HEADERS)
            if (r.query.has(`response-${name}`))
                headers[name] = r.query.get(`response-${name}`);
        const size = object.body.size;
        const range = r.headers.has('range') ? parseRange(r.headers.get('range'), size) : null;
        if (!range)
            return { status: 200, headers, body: object.body.slice(0, size) };
        headers['Content-Range'] = `bytes ${range[0]}-${range[1] - 1}/${size}`;
        return { status: 206, headers, body: object.body.slice(range[0], range[1]) };
    },

    PutObject(r, bucket) {
        checkKey(r);
        mayOverwrite(r, bucket);
        const about = description(r);
        limitSize(r.body.size, opt.max_put, 'A single upload');
        checkMd5(r);
        const object = { ...about, body: r.takeBody(), etag: r.body.md5, md5: r.body.md5, crc64: r.body.crc64, modified: now() };
        bucket.put(r.byteKey, object);
        return { status: 200, headers: { 'ETag': quoted(object.etag), 'x-cos-hash-crc64ecma': String(object.crc64),
            ...(object.sse && { 'x-cos-server-side-encryption': object.sse }) } };
    },

    CopyObject(r, bucket) {
        checkKey(r);
        mayOverwrite(r, bucket);
        const from = copySource(r);
        limitSize(from.object.body.size, opt.max_copy, 'The source of a copy');
        const directive = r.headers.get('x-cos-metadata-directive') ?? 'Copy';
        if (!['Copy', 'Replaced'].includes(directive))
            throw new CosError(400, 'InvalidArgument', 'x-cos-metadata-directive must be Copy or Replaced.');
        if (directive === 'Copy' && from.bucket === bucket && from.byteKey === r.byteKey)
            throw new CosError(400, 'InvalidRequest', 'Copying an object onto itself needs new metadata.');
        const { headers, meta, md5, etag, crc64 } = from.object;
        const about = directive === 'Copy' ? { headers, meta, ...placement(r) } : description(r);
        bucket.put(r.byteKey, { ...about, body: from.object.body.slice(0, from.object.body.size), etag, md5, crc64, modified: now() });
        const made = bucket.objects.get(r.byteKey);
        return xmlReply(el('CopyObjectResult', el('ETag', quoted(made.etag)), el('CRC64', made.crc64), el('LastModified', iso(made.modified))),
            { 'x-cos-hash-crc64ecma': String(made.crc64) });
    },

    DeleteObject(r, bucket) {
        bucket.remove(r.byteKey);
        return { status: 204 };
    },

    DeleteMultipleObjects(r, bucket) {
        if (!r.headers.has('content-md5'))
            throw new CosError(400, 'MissingContentMD5', 'Content-MD5 is required for this request.');
        checkMd5(r);
        const root = readXml(r);
        const objects = root.children.filter(c => c.name === 'Object');
        if (root.name !== 'Delete' || objects.length < 1 || objects.length > 1000 || objects.some(o => !xml.childText(o, 'Key')))
            throw new CosError(400, 'MalformedXML', 'Between 1 and 1000 objects with a key each are expected.');
        const quiet = xml.childText(root, 'Quiet')?.trim() === 'true';
        const done = objects.map(o => {
            bucket.remove(toBytes(xml.childText(o, 'Key')));
            return el('Deleted', el('Key', xml.childText(o, 'Key')));
        });
        return xmlReply(el('DeleteResult', quiet ? [] : done));
    },

    InitiateMultipartUpload(r, bucket) {
        checkKey(r);
        const about = description(r);
        const id = String(Math.floor(now() / 1000)) + crypto.randomBytes(24).toString('hex');
        bucket.uploads.set(id, { ...about, byteKey: r.byteKey, parts: new Map(), initiated: now() });
        return xmlReply(el('InitiateMultipartUploadResult', el('Bucket', bucket.name), el('Key', r.key), el('UploadId', id)));
    },

    UploadPart(r, bucket) {
        const upload = uploadOf(r, bucket), number = partNumber(r);
        limitSize(r.body.size, opt.max_part, 'A part');
        checkMd5(r);
        setPart(upload, number, { body: r.takeBody(), etag: r.body.md5, crc64: r.body.crc64, modified: now() });
        return { status: 200, headers: { 'ETag': quoted(r.body.md5), 'x-cos-hash-crc64ecma': String(r.body.crc64) } };
    },

    async UploadPartCopy(r, bucket) {
        const number = partNumber(r);
        uploadOf(r, bucket);
        const from = copySource(r);
        const size = from.object.body.size;
        const text = r.headers.get('x-cos-copy-source-range');
        const m = text === undefined ? ['', 0, size - 1] : /^bytes=(\d+)-(\d+)$/.exec(text);
        if (!m || Number(m[2]) < Number(m[1]))
            throw new CosError(400, 'InvalidArgument', 'x-cos-copy-source-range must be bytes=first-last.');
        if (Number(m[2]) >= size)
            throw new CosError(416, 'InvalidRange', 'The range is not within the source.');
        limitSize(Number(m[2]) + 1 - Number(m[1]), opt.max_copy, 'A copied part');
        const body = from.object.body.slice(Number(m[1]), Number(m[2]) + 1);
        const { md5, crc64 } = await body.digest();
        let upload;
        try {
            upload = uploadOf(r, bucket);
        } catch (err) {
            body.drop();
            throw err;
        }
        const part = { body, etag: md5, crc64, modified: now() };
        setPart(upload, number, part);
        return xmlReply(el('CopyPartResult', el('ETag', quoted(md5)), el('CRC64', crc64), el('LastModified', iso(part.modified))),
            { 'x-cos-hash-crc64ecma': String(crc64) });
    },

    ListParts(r, bucket) {
        const upload = uploadOf(r, bucket), encode = encoder(r);
        const max = count(r, 'max-parts'), marker = Number(r.query.get('part-number-marker') ?? 0);
        const numbers = [...upload.parts.keys()].filter(n => n > marker).sort((a, b) => a - b);
        const page = numbers.slice(0, max), truncated = page.length < numbers.length;
        return xmlReply(el('ListPartsResult',
            el('Bucket', bucket.name), r.query.has('encoding-type') ? el('EncodingType', 'url') : undefined,
            el('Key', encode(upload.byteKey)), el('UploadId', r.query.get('uploadId')), OWNER, el('StorageClass', upload.storageClass),
            el('PartNumberMarker', marker), truncated ? el('NextPartNumberMarker', page[page.length - 1] ?? marker) : undefined,
            el('MaxParts', max), el('IsTruncated', truncated),
            page.map(n => {
                const p = upload.parts.get(n);
                return el('Part', el('PartNumber', n), el('LastModified', iso(p.modified)), el('ETag', quoted(p.etag)), el('Size', p.body.size));
            })));
    },

    ListMultipartUploads(r, bucket) {
        const encode = encoder(r);
        const get = name => toBytes(r.query.get(name) ?? '');
        const prefix = get('prefix'), delimiter = get('delimiter'), keyMarker = get('key-marker'), idMarker = r.query.get('upload-id-marker') ?? '';
        const max = count(r, 'max-uploads');
        const all = [...bucket.uploads].map(([id, u]) => ({ id, ...u })).filter(u => u.byteKey.startsWith(prefix))
            .filter(u => u.byteKey > keyMarker || (u.byteKey === keyMarker && idMarker !== '' && u.id > idMarker))
            .sort((a, b) => a.byteKey < b.byteKey ? -1 : a.byteKey > b.byteKey ? 1 : a.id < b.id ? -1 : 1);
        const page = [], groups = new Set();
        let truncated = false, last;
        for (const u of all) {
            const cut = delimiter ? u.byteKey.indexOf(delimiter, prefix.length) : -1;
            const group = cut < 0 ? undefined : u.byteKey.slice(0, cut + delimiter.length);
            if (group === undefined || !groups.has(group)) {
                if (page.length + groups.size >= max) {
                    truncated = true;
                    break;
                }
                group === undefined ? page.push(u) : groups.add(group);
            }
            last = u;
        }
        return xmlReply(el('ListMultipartUploadsResult',
            el('Bucket', bucket.name), r.query.has('encoding-type') ? el('EncodingType', 'url') : undefined,
            el('KeyMarker', encode(keyMarker)), el('UploadIdMarker', idMarker),
            truncated && last ? [el('NextKeyMarker', encode(last.byteKey)), el('NextUploadIdMarker', last.id)] : [],
            el('MaxUploads', max), el('Prefix', encode(prefix)), delimiter ? el('Delimiter', encode(delimiter)) : undefined,
            el('IsTruncated', truncated),
            page.map(u => el('Upload', el('Key', encode(u.byteKey)), el('UploadId', u.id), el('StorageClass', u.storageClass),
                el('Initiator', el('ID', 'qcs::cam::uin/100000000001:uin/100000000001'), el('DisplayName', '100000000001')),
                OWNER, el('Initiated', iso(u.initiated)))),
            [...groups].map(g => el('CommonPrefixes', el('Prefix', encode(g))))));
    },

    CompleteMultipartUpload(r, bucket) {
        const upload = uploadOf(r, bucket);
        mayOverwrite(r, bucket);
        checkMd5(r);
        const root = readXml(r);
        const wanted = root.children.map(p => ({ number: Number(xml.childText(p, 'PartNumber')), etag: xml.childText(p, 'ETag') }));
        if (root.name !== 'CompleteMultipartUpload' || !wanted.length || wanted.length > opt.max_parts
            || root.children.some(p => p.name !== 'Part') || wanted.some(p => !Number.isInteger(p.number) || p.etag === undefined))
            throw new CosError(400, 'MalformedXML', 'A list of parts with number and ETag each is expected.');
        if (wanted.some((p, i) => i > 0 && p.number <= wanted[i - 1].number))
            throw new CosError(400, 'InvalidPartOrder', 'The list of parts was not in ascending order.');
        const parts = wanted.map(p => {
            const part = upload.parts.get(p.number);
            if (!part || part.etag !== unquoted(p.etag))
                throw new CosError(400, 'InvalidPart', `Part ${p.number} was not uploaded, or its ETag differs.`, { PartNumber: p.number });
            return part;
        });
        const tiny = parts.slice(0, -1).findIndex(p => p.body.size < opt.min_part);
        if (tiny >= 0)
            throw new CosError(400, 'EntityTooSmall', `A part which is not the last is smaller than ${opt.min_part} bytes.`,
                { PartNumber: wanted[tiny].number });
        const size = parts.reduce((sum, p) => sum + p.body.size, 0);
        const crc64 = parts.reduce((crc, p) => combine(crc, p.crc64, p.body.size), 0n);
        limitSize(size, 50000 * GIB, 'An object');
        const { headers, meta, storageClass, sse } = upload;
        // Opaque: nobody may take it for a digest of anything.
        const etag = `${crypto.randomBytes(16).toString('hex')}-${wanted.length}`;
        bucket.put(r.byteKey, { headers, meta, storageClass, sse, body: Body.concat(parts.map(p => p.body)),
            etag, crc64, modified: now() });
        bucket.dropUpload(r.query.get('uploadId'));
        return xmlReply(el('CompleteMultipartUploadResult', el('Location', `http://${r.host}${r.rawPath}`), el('Bucket', bucket.name),
            el('Key', r.key), el('ETag', quoted(etag))), { 'x-cos-hash-crc64ecma': String(crc64) });
    },

    AbortMultipartUpload(r, bucket) {
        uploadOf(r, bucket);
        bucket.dropUpload(r.query.get('uploadId'));
        return { status: 204 };
    },

    PostObjectRestore(r, bucket) {
        const object = objectOf(bucket, r.byteKey);
        if (!r.headers.has('content-md5'))
            throw new CosError(400, 'MissingContentMD5', 'Content-MD5 is required for this request.');
        checkMd5(r);
        const root = readXml(r), days = Number(xml.childText(root, 'Days'));
        if (root.name !== 'RestoreRequest' || !(days >= 1))
            throw new CosError(400, 'MalformedXML', 'RestoreRequest with Days is expected.');
        if (!WANT_RESTORE.includes(object.storageClass))
            throw new CosError(403, 'InvalidObjectState', 'The object is not archived.');
        const again = restored(object);
        if (object.restoreReady !== undefined && !again)
            throw new CosError(409, 'RestoreAlreadyInProgress', 'Object restore is already in progress.');
        object.restoreReady ??= Date.now() + opt.restore_ms;
        object.restoreUntil = Date.now() + days * 86400000;
        return { status: again ? 200 : 202 };
    },

    PutBucket(r) {
        if (buckets.has(r.bucketName))
            throw new CosError(409, 'BucketAlreadyOwnedByYou', 'The bucket exists.');
        makeBucket(`${r.bucketName}@${r.region ?? opt.region}`);
        return { status: 200 };
    },
};

// ---- one request

const TAKES_BODY = ['PutObject', 'UploadPart', 'DeleteMultipleObjects', 'CompleteMultipartUpload', 'PostObjectRestore', 'PutBucket',
    'InitiateMultipartUpload', 'CopyObject', 'UploadPartCopy'];
const NEEDS_LENGTH = ['PutObject', 'UploadPart', 'CopyObject', 'UploadPartCopy'];

function errorReply(r, err, requestId) {
    if (!(err instanceof CosError)) {
        console.error(err);
        err = new CosError(500, 'InternalError', err.message);
    }
    const reply = xmlReply(el('Error', el('Code', err.code), el('Message', err.message), el('Resource', r.host + r.rawPath),
        el('RequestId', requestId), el('TraceId', 'dGVzdA=='), Object.entries(err.extra).map(([k, v]) => el(k, v))), err.headers, err.status);
    reply.code = err.code;
    return reply;
}

const failure = rule => new CosError(rule.status ?? 503, rule.code ?? 'SlowDown', rule.message ?? 'Injected.', {}, rule.headers ?? {});
const isSmall = r => TAKES_BODY.includes(r.op) && !['PutObject', 'UploadPart'].includes(r.op);
const run = r => operations[r.op](r, r.op === 'GetService' || r.op === 'PutBucket' ? null : bucketOf(r));

function admit(r) {
    authenticate(r, credentials, Math.floor(now() / 1000), clock.code);
    if (r.op === 'Unknown' || !(r.op in operations))
        throw new CosError(405, 'MethodNotAllowed', 'The method is not allowed against this resource.');
    const odd = NOT_HERE.find(n => r.query.has(n));
    if (odd)
        throw new CosError(501, 'NotImplemented', `?${odd} is not part of this server.`);
    if (NEEDS_LENGTH.includes(r.op) && !r.headers.has('content-length'))
        throw new CosError(411, 'MissingContentLength', 'You must provide the Content-Length HTTP header.');
    const announced = Number(r.headers.get('content-length') ?? 0);
    if (r.op === 'PutObject')
        limitSize(announced, opt.max_put, 'A single upload');
    if (r.op === 'UploadPart')
        limitSize(announced, opt.max_part, 'A part');
}

const server = engine({
    log, faults, understand, admit, run, errorReply, failure,
    keeps: r => isSmall(r) ? SMALL_BODY : 0,
    headers: entry => ({ 'Server': 'tencent-cos', 'Date': new Date(now()).toUTCString(), 'x-cos-request-id': entry.request_id,
        'x-cos-trace-id': 'dGVzdA==' }),
    acts: {
        error200: ({ r, rule, entry, finish }) =>
            finish({ ...errorReply(r, new CosError(200, rule.code ?? 'InternalError', 'Injected.'), entry.request_id) }),
        keepalive: async ({ r, rule, entry, res, done }) => {
            entry.status = 200;
            res.writeHead(200, { 'Content-Type': 'application/xml', 'Date': new Date(now()).toUTCString(), 'x-cos-request-id': entry.request_id });
            for (let waited = 0; waited < (rule.ms ?? 1000); waited += 100) {
                res.write(' ');
                await sleep(100);
            }
            let reply;
            try {
                reply = rule.code ? errorReply(r, new CosError(200, rule.code, 'Injected.'), entry.request_id) : await run(r);
            } catch (err) {
                reply = errorReply(r, err, entry.request_id);
            }
            entry.code = reply.code;
            done();
            res.end(reply.body);
        },
        wrong_etag: async ({ r, finish }) => {
            const reply = await run(r);
            reply.headers = { ...reply.headers, 'ETag': quoted('0'.repeat(32)), 'x-cos-hash-crc64ecma': '1' };
            await finish(reply);
        },
    },
});

// ---- control

const facts = (key, o) => ({ key: toText(key), size: o.body.size, etag: o.etag, md5: o.md5, crc64: String(o.crc64), headers: o.headers, meta: o.meta,
    storage_class: o.storageClass, sse: o.sse, modified: o.modified });
const control = controlServer(faults, storeRoutes({
    buckets, credentials, clock, opt, makeBucket, facts,
    uploadFacts: u => ({ initiated: u.initiated, meta: u.meta, headers: u.headers }),
    makeObject(bytes, query, headers) {
        const about = description({ headers });
        const body = Body.of(bytes);
        const etag = query.has('opaque') ? `${crypto.randomBytes(16).toString('hex')}-${query.get('opaque')}` : body.md5;
        return [{ ...about, body, etag, md5: body.md5, crc64: body.crc64, modified: now() }, { etag, size: bytes.length, crc64: String(body.crc64) }];
    },
}));

const port = await listen(server, opt.port);
const controlPort = await listen(control, opt.control);
const [firstId, first] = [...credentials][0];
announce(opt.ready, {
    COS_HOST: '127.0.0.1', COS_PORT: port, COS_CONTROL: controlPort, COS_ENDPOINT: `http://127.0.0.1:${port}`, COS_REGION: opt.region,
    COS_BUCKET: opt.bucket[0], COS_BUCKETS: [...buckets.keys()].join(' '), COS_SECRET_ID: firstId, COS_SECRET_KEY: first.secret,
    COS_TOKEN: first.token ?? '', COS_LOG: opt.log, COS_PID: process.pid,
});
