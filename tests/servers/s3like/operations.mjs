// What an S3-style store does with objects, uploads and lists. Each operation takes the request and its bucket, and applies
// itself when called. How providers differ is asked of world.skin, see server.mjs; one whose answers are other documents brings
// them as its `results`.
import crypto from 'node:crypto';
import { byteRange, percentDecode as plainText } from '../common.mjs';
import { Body, Bucket, combine, toBytes, toText } from '../store.mjs';
import { StoreError } from './errors.mjs';
import { world, now } from './world.mjs';
import * as xml from '../xml.mjs';

const { el } = xml;
const GIB = 1024 ** 3;
export const STANDARD_HEADERS = ['cache-control', 'content-disposition', 'content-encoding', 'content-language', 'content-type', 'expires'];
const OWNER = el('Owner', el('ID', '100000000001'), el('DisplayName', '100000000001'));

export function makeBucket(spec) {
    const [name, region] = spec.split('@');
    const bucket = new Bucket(name, region ?? world.opt.region);
    world.buckets.set(name, bucket);
    return bucket;
}

export function percentDecode(text) {
    const decoded = plainText(text);
    if (decoded === null)
        throw new StoreError(400, 'InvalidURI', 'The path or a parameter is not percent-encoded UTF-8.');
    return decoded;
}

function checkKey(r) {
    if (r.byteKey.length > world.opt.max_key)
        throw new StoreError(400, 'KeyTooLong', `The key is longer than ${world.opt.max_key} bytes.`);
    const fault = world.skin.keyFault?.(r.byteKey);
    if (fault)
        throw fault;
}

const createOnly = r => world.skin.createOnly?.(r) ?? r.headers.get(`${r.vendor}forbid-overwrite`) === 'true';

// ---- objects

export const quoted = etag => `"${etag}"`;
export const unquoted = etag => etag.trim().replace(/^"(.*)"$/, '$1');

// What a request says of the object it makes.
export function description(r) {
    const headers = {}, meta = {}, prefix = `${r.vendor}meta-`;
    let metaBytes = 0;
    for (const [name, value] of r.headers) {
        if ((world.skin.standardHeaders ?? STANDARD_HEADERS).includes(name) && value !== '')
            headers[name] = value;
        if (name.startsWith(prefix)) {
            if (world.skin.badMetaName?.test(name.slice(prefix.length)))
                throw new StoreError(400, 'InvalidArgument', `The name ${name} is not allowed.`);
            meta[name.slice(prefix.length)] = value;
            metaBytes += name.length - (world.skin.metaPrefixCounts ? 0 : prefix.length) + Buffer.byteLength(value);
        }
    }
    if (metaBytes > world.opt.max_meta)
        throw new StoreError(400, 'MetadataTooLarge', `User metadata of ${metaBytes} bytes is over ${world.opt.max_meta}.`);
    return { headers, meta, ...placement(r) };
}

function placement(r) {
    const { classes, encryptions } = world.skin;
    const storageClass = r.headers.get(`${r.vendor}storage-class`) ?? classes[0];
    if (!classes.includes(storageClass))
        throw new StoreError(400, 'InvalidStorageClass', `Unknown storage class ${storageClass}.`);
    const sse = r.headers.get(encryptionHeader(r)) ?? '';
    if (sse !== '' && encryptions && !encryptions.includes(sse))
        throw new StoreError(400, 'InvalidArgument', `Unknown encryption ${sse}.`);
    if (r.headers.has(`${r.vendor}server-side-encryption-customer-algorithm`))
        throw new StoreError(501, 'NotImplemented', 'SSE-C is not part of this server.');
    return { storageClass, sse };
}

function replyHeaders(r, object) {
    const { skin } = world;
    const h = {
        'content-type': 'application/octet-stream',
        ...object.headers,
        'ETag': quoted(object.etag),
        'Last-Modified': new Date(object.modified).toUTCString(),
        ...checksum(r, object),
        ...skin.objectHeaders?.(object),
    };
    for (const [name, value] of Object.entries(object.meta))
        h[`${r.vendor}meta-${name}`] = Buffer.from(value, 'utf8').toString('latin1');
    if (object.storageClass !== skin.classes[0] || skin.alwaysClass)
        h[`${r.vendor}storage-class`] = object.storageClass;
    if (object.sse)
        h[encryptionHeader(r)] = object.sse;
    if (object.restoreUntil)
        h[`${r.vendor}restore`] = restored(object) ? `ongoing-request="false", expiry-date="${new Date(object.restoreUntil).toUTCString()}"`
            : 'ongoing-request="true"';
    return h;
}

const encryptionHeader = r => r.vendor + (world.skin.encryptionHeader ?? 'server-side-encryption');
// What the provider says of bytes, be they an object's or a part's.
export const checksum = (r, bytes) => world.skin.checksum?.(bytes) ?? { [r.vendor + world.skin.crc]: String(bytes.crc64) };
const etagOf = md5 => world.skin.upperEtags ? md5.toUpperCase() : md5;
// Some say it in the head, too, where others say it in the body only.
const etagInHead = etag => world.skin.etagInHead ? { ETag: quoted(etag) } : {};
// Of an object made of parts: opaque, so that nobody may take it for a digest of anything.
export const partsEtag = n => world.skin.partsEtag?.(n) ?? `${etagOf(crypto.randomBytes(16).toString('hex'))}-${n}`;
// With the checksum that only some of the providers know.
const known = async bytes => ({ ...bytes, ...(world.skin.crc32c && { crc32c: await crc32cOf(bytes.body) }) });
export async function crc32cOf(body) {
    const crc = world.skin.crc32c();
    for await (const part of body.read())
        crc.update(part);
    return crc.valueOf() >>> 0;
}
const restored = object => object.restoreReady !== undefined && Date.now() >= object.restoreReady;
const frozenError = (r, object, message) => new StoreError(403, 'InvalidObjectState', message, {},
    world.skin.classInRefusals ? { [`${r.vendor}storage-class`]: object.storageClass } : {});
const frozen = object => world.skin.archived.includes(object.storageClass) && !restored(object);

function objectOf(bucket, byteKey) {
    const object = bucket.objects.get(byteKey);
    if (!object)
        throw new StoreError(404, 'NoSuchKey', 'The specified key does not exist.');
    return object;
}

function mayOverwrite(r, bucket) {
    const refused = world.skin.overwriteRefused ?? [409, 'FileAlreadyExists'];
    if (createOnly(r) && bucket.objects.has(r.byteKey))
        throw new StoreError(...refused, 'The object exists and must not be overwritten.');
}

const matches = (list, etag) => list.trim() === '*' || list.split(',').some(e => unquoted(e) === etag);

// The four conditions, under `prefix` for the source of a copy. Returns false for "304".
function checkConditions(r, object, prefix = '') {
    const get = name => r.headers.get(prefix + name);
    const seconds = Math.floor(object.modified / 1000) * 1000;
    const failed = () => new StoreError(412, 'PreconditionFailed', 'A condition of the request does not hold.');
    if (get('if-match') !== undefined && !matches(get('if-match'), object.etag))
        throw failed();
    if (get('if-match') === undefined && get('if-unmodified-since') !== undefined && seconds > Date.parse(get('if-unmodified-since')))
        throw failed();
    if (get('if-none-match') !== undefined && matches(get('if-none-match'), object.etag))
        return false;
    return !(get('if-none-match') === undefined && get('if-modified-since') !== undefined && seconds <= Date.parse(get('if-modified-since')));
}

// [from, to) of the Range header; null when it is to be ignored.
function parseRange(r, size) {
    const range = byteRange(r.headers.get('range'), size);
    // Where a range that cannot be is answered with the whole object unless the client wants it otherwise.
    const lenient = world.skin.lenientRanges && r.headers.get(`${r.vendor}range-behavior`) !== 'standard';
    if (range === undefined && !lenient)
        throw new StoreError(416, 'InvalidRange', 'The requested range cannot be satisfied.', {}, { 'Content-Range': `bytes */${size}` });
    return range ?? null;
}

function checkMd5(r) {
    const text = r.headers.get('content-md5');
    if (text === undefined)
        return;
    const given = Buffer.from(text, 'base64');
    if (given.length !== 16 || given.toString('base64') !== text)
        throw new StoreError(400, 'InvalidDigest', 'The Content-MD5 you specified is not valid.');
    if (given.toString('hex') !== r.body.md5)
        throw new StoreError(400, world.skin.badDigest ?? 'BadDigest', 'The Content-MD5 you specified did not match what we received.');
}

export function limitSize(size, limit, what) {
    if (size > limit)
        throw new StoreError(400, 'EntityTooLarge', `${what} of ${size} bytes is over ${limit}.`);
}

// The object that the copy source names.
function copySource(r) {
    const name = `${r.vendor}copy-source`, text = r.headers.get(name);
    const bad = message => new StoreError(400, 'InvalidArgument', `${name}: ${message}`);
    if (/[^\x21-\x7e]/.test(text) || text.includes('+'))
        throw bad('not percent-encoded');
    const [source, ...version] = text.split('?');
    if (version.length)
        throw bad('versions are not part of this server');
    const { bucketName, region, rawKey } = world.skin.copySource(r, source, bad);
    const bucket = world.buckets.get(bucketName);
    if (!bucket || (region && region !== bucket.region))
        throw new StoreError(404, 'NoSuchBucket', 'The bucket of the copy source does not exist.');
    if (world.skin.copiesInRegion && bucket.region !== world.buckets.get(r.bucketName).region)
        throw new StoreError(400, 'InvalidArgument', 'The source of a copy must be in the same region.');
    const byteKey = toBytes(percentDecode(rawKey));
    const object = objectOf(bucket, byteKey);
    if (!checkConditions(r, object, `${r.vendor}copy-source-`))
        throw new StoreError(412, 'PreconditionFailed', 'A condition on the copy source does not hold.');
    if (frozen(object))
        throw frozenError(r, object, 'The source is archived; restore it first.');
    return { bucket, byteKey, object };
}

// ---- multipart

function uploadOf(r, bucket) {
    const upload = bucket.uploads.get(r.query.get('uploadId'));
    if (!upload || upload.byteKey !== r.byteKey)
        throw new StoreError(404, 'NoSuchUpload', 'The specified multipart upload does not exist.');
    return upload;
}

function partNumber(r) {
    const n = Number(r.query.get('partNumber'));
    if (!Number.isInteger(n) || n < 1 || n > world.opt.max_parts)
        throw new StoreError(400, 'InvalidArgument', `partNumber must be 1 to ${world.opt.max_parts}.`);
    return n;
}

function setPart(upload, number, part) {
    upload.parts.get(number)?.body.drop();
    upload.parts.set(number, part);
}

function readXml(r) {
    try {
        return xml.parse(r.bodyText);
    } catch (err) {
        throw new StoreError(400, 'MalformedXML', `The XML you provided is not well-formed: ${err.message}`);
    }
}

// The parts that the body names.
function completed(r) {
    const root = readXml(r);
    const parts = root.children.map(p => ({ number: Number(xml.childText(p, 'PartNumber')), etag: xml.childText(p, 'ETag') }));
    if (root.name !== 'CompleteMultipartUpload' || root.children.some(p => p.name !== 'Part')
        || parts.some(p => !Number.isInteger(p.number) || p.etag === undefined))
        throw new StoreError(400, 'MalformedXML', 'A list of parts with number and ETag each is expected.');
    return parts;
}

function encoder(r) {
    const type = r.query.get('encoding-type');
    if (type !== undefined && type !== 'url')
        throw new StoreError(400, 'InvalidArgument', 'encoding-type must be url.');
    return type ? world.skin.encode : toText;
}

function count(r, name, fallback = 1000) {
    const text = r.query.get(name);
    if (text === undefined || text === '')
        return fallback;
    if (!/^\d+$/.test(text))
        throw new StoreError(400, 'InvalidArgument', `${name} is not a number.`);
    return Math.min(Number(text), 1000);
}

const iso = ms => new Date(ms).toISOString();
const answer = (what, args, otherwise, headers = {}) => {
    const own = world.skin.results?.[what];
    return own ? { status: 200, headers: { 'Content-Type': world.skin.contentType, ...headers }, body: Buffer.from(own(...args)) } : xmlReply(otherwise(), headers);
};
export const xmlReply = (root, headers = {}, status = 200) => ({ status, headers: { 'Content-Type': 'application/xml', ...headers }, body: Buffer.from(xml.document(root)) });

// ---- operations: each takes the request, its bucket, and applies itself when called

export const operations = {
    GetService() {
        return xmlReply(el('ListAllMyBucketsResult', OWNER, el('Buckets', [...world.buckets.values()].map(b =>
            el('Bucket', el('Name', b.name), el('Location', b.region), el('CreationDate', iso(b.created)))))));
    },

    HeadBucket(r, bucket) {
        return { status: 200, headers: world.skin.regionless ? {} : { [`${r.vendor}bucket-region`]: bucket.region } };
    },

    GetBucket(r, bucket) {
        if (r.query.has('location'))
            return xmlReply(el('LocationConstraint', bucket.region));
        if (r.query.has('versioning'))
            return xmlReply(el('VersioningConfiguration'));
        const encode = encoder(r);
        const get = name => toBytes(r.query.get(name) ?? '');
        const max = count(r, 'max-keys', world.skin.listPage);
        const page = bucket.list(get('prefix'), get('delimiter'), get('marker'), max);
        const about = { bucket, prefix: get('prefix'), delimiter: get('delimiter'), marker: get('marker'), max, ...page,
            objects: page.keys.map(key => ({ key, ...bucket.objects.get(key) })) };
        return answer('list', [r, about], () => el('ListBucketResult',
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
                    el('Size', o.body.size), OWNER, el('StorageClass', o.storageClass), world.skin.listFacts?.(o));
            }),
            page.prefixes.map(p => el('CommonPrefixes', el('Prefix', encode(p))))));
    },

    DeleteBucket(r, bucket) {
        if (bucket.objects.size || bucket.uploads.size)
            throw new StoreError(409, 'BucketNotEmpty', 'The bucket you tried to delete is not empty.');
        world.buckets.delete(bucket.name);
        return { status: 204 };
    },

    HeadObject(r, bucket) {
        return operations.GetObject(r, bucket);
    },

    async GetObject(r, bucket) {
        const object = objectOf(bucket, r.byteKey);
        if (!checkConditions(r, object))
            return { status: 304, headers: { ETag: quoted(object.etag) } };
        if (r.method === 'GET' && frozen(object))
            throw frozenError(r, object, 'The object is archived; restore it first.');
        const headers = { ...replyHeaders(r, object), 'Accept-Ranges': 'bytes' };
        for (const name of STANDARD_HEADERS)
            if (r.query.has(`response-${name}`))
                headers[name] = r.query.get(`response-${name}`);
        const size = object.body.size;
        const other = await world.skin.transcoded?.(r, object, headers);
        if (other)
            return { status: 200, headers, body: other };
        const range = r.headers.has('range') ? parseRange(r, size) : null;
        if (!range)
            return { status: 200, headers, body: object.body.slice(0, size) };
        headers['Content-Range'] = `bytes ${range[0]}-${range[1] - 1}/${size}`;
        return { status: 206, headers, body: object.body.slice(range[0], range[1]) };
    },

    PutObject(r, bucket) {
        checkKey(r);
        mayOverwrite(r, bucket);
        const about = description(r);
        limitSize(r.body.size, world.opt.max_put, 'A single upload');
        checkMd5(r);
        const { md5, crc64, crc32c } = r.body;
        const object = { ...about, body: r.takeBody(), etag: etagOf(md5), md5, crc64, crc32c, modified: now(), ...world.skin.version?.() };
        bucket.put(r.byteKey, object);
        return { status: 200, headers: { 'ETag': quoted(object.etag), ...checksum(r, object),
            ...(object.sse && { [encryptionHeader(r)]: object.sse }) } };
    },

    CopyObject(r, bucket) {
        checkKey(r);
        mayOverwrite(r, bucket);
        const from = copySource(r);
        limitSize(from.object.body.size, world.opt.max_copy, 'The source of a copy');
        const [keep, replace] = world.skin.directives;
        const directive = r.headers.get(`${r.vendor}metadata-directive`) ?? keep;
        if (![keep, replace].includes(directive))
            throw new StoreError(400, 'InvalidArgument', `The metadata directive must be ${keep} or ${replace}.`);
        if (directive === keep && from.bucket === bucket && from.byteKey === r.byteKey)
            throw new StoreError(400, 'InvalidRequest', 'Copying an object onto itself needs new metadata.');
        const { headers, meta, md5, etag, crc64, crc32c } = from.object;
        const about = directive === keep ? { headers, meta, ...placement(r) } : description(r);
        bucket.put(r.byteKey, { ...about, body: from.object.body.slice(0, from.object.body.size), etag, md5, crc64, crc32c,
            modified: now(), ...world.skin.version?.() });
        const made = bucket.objects.get(r.byteKey);
        return answer('copy', [made], () => el('CopyObjectResult', el('ETag', quoted(made.etag)), world.skin.crcElement ? el('CRC64', made.crc64) : undefined,
            el('LastModified', iso(made.modified))), checksum(r, made));
    },

    DeleteObject(r, bucket) {
        if (!bucket.remove(r.byteKey) && world.skin.removesOnlyWhatIs)
            throw new StoreError(404, 'NoSuchKey', 'The specified key does not exist.');
        return { status: 204 };
    },

    DeleteMultipleObjects(r, bucket) {
        if (world.skin.noBatch)
            throw new StoreError(400, 'InvalidArgument', 'Invalid query parameter.');
        if (world.skin.deleted) {
            for (const key of world.skin.deleted(r.bodyText))
                bucket.remove(toBytes(key));
            return { status: 200 }; // failures only, and there are none
        }
        if (!r.headers.has('content-md5'))
            throw new StoreError(400, 'MissingContentMD5', 'Content-MD5 is required for this request.');
        checkMd5(r);
        const root = readXml(r);
        const objects = root.children.filter(c => c.name === 'Object');
        if (root.name !== 'Delete' || objects.length < 1 || objects.length > 1000 || objects.some(o => !xml.childText(o, 'Key')))
            throw new StoreError(400, 'MalformedXML', 'Between 1 and 1000 objects with a key each are expected.');
        const quiet = xml.childText(root, 'Quiet')?.trim() === 'true';
        const done = objects.map(o => {
            bucket.remove(toBytes(xml.childText(o, 'Key')));
            return el('Deleted', el('Key', xml.childText(o, 'Key')));
        });
        return quiet && world.skin.quietIsMute ? { status: 200 } : xmlReply(el('DeleteResult', quiet ? [] : done));
    },

    InitiateMultipartUpload(r, bucket) {
        checkKey(r);
        const about = description(r);
        const id = String(Math.floor(now() / 1000)) + crypto.randomBytes(24).toString('hex');
        bucket.uploads.set(id, { ...about, byteKey: r.byteKey, parts: new Map(), initiated: now() });
        return answer('begin', [r, id], () => el('InitiateMultipartUploadResult', el('Bucket', bucket.name), el('Key', r.key), el('UploadId', id)));
    },

    UploadPart(r, bucket) {
        const upload = uploadOf(r, bucket), number = partNumber(r);
        limitSize(r.body.size, world.opt.max_part, 'A part');
        checkMd5(r);
        const { md5, crc64, crc32c } = r.body;
        setPart(upload, number, { body: r.takeBody(), etag: etagOf(md5), crc64, crc32c, modified: now() });
        return { status: 200, headers: { 'ETag': quoted(etagOf(md5)), ...checksum(r, { md5, crc64, crc32c }) } };
    },

    async UploadPartCopy(r, bucket) {
        if (world.skin.noPartCopy)
            throw new StoreError(501, 'NotImplemented', 'This service does not copy into parts.');
        const number = partNumber(r);
        uploadOf(r, bucket);
        const from = copySource(r);
        const size = from.object.body.size;
        const text = r.headers.get(`${r.vendor}copy-source-range`);
        const m = text === undefined ? ['', 0, size - 1] : /^bytes=(\d+)-(\d+)$/.exec(text);
        if (!m || Number(m[2]) < Number(m[1]))
            throw new StoreError(400, 'InvalidArgument', 'The range of the copy source must be bytes=first-last.');
        if (Number(m[2]) >= size)
            throw new StoreError(416, 'InvalidRange', 'The range is not within the source.');
        limitSize(Number(m[2]) + 1 - Number(m[1]), world.opt.max_copy, 'A copied part');
        const body = from.object.body.slice(Number(m[1]), Number(m[2]) + 1);
        const { md5, crc64 } = await body.digest();
        let upload;
        try {
            upload = uploadOf(r, bucket);
        } catch (err) {
            body.drop();
            throw err;
        }
        const part = await known({ body, etag: etagOf(md5), crc64, modified: now() });
        setPart(upload, number, part);
        return answer('part', [part], () => el('CopyPartResult', el('ETag', quoted(part.etag)), world.skin.crcElement ? el('CRC64', crc64) : undefined,
            el('LastModified', iso(part.modified))), { ...checksum(r, part), ...etagInHead(part.etag) });
    },

    ListParts(r, bucket) {
        const upload = uploadOf(r, bucket), encode = encoder(r);
        const max = count(r, 'max-parts'), marker = Number(r.query.get('part-number-marker') ?? 0);
        const numbers = [...upload.parts.keys()].filter(n => n > marker).sort((a, b) => a - b);
        const page = numbers.slice(0, max), truncated = page.length < numbers.length;
        return answer('parts', [r, { marker, max, truncated, next: page.at(-1) ?? marker, upload,
            parts: page.map(number => ({ number, ...upload.parts.get(number) })) }], () => el('ListPartsResult',
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
        return answer('uploads', [r, { prefix, keyMarker, idMarker, max, truncated, last, uploads: page }], () => el('ListMultipartUploadsResult',
            el('Bucket', bucket.name), r.query.has('encoding-type') ? el('EncodingType', 'url') : undefined,
            el('KeyMarker', encode(keyMarker)), el('UploadIdMarker', idMarker),
            truncated && last ? [el('NextKeyMarker', encode(last.byteKey)), el('NextUploadIdMarker', last.id)] : [],
            el('MaxUploads', max), el('Prefix', encode(prefix)), delimiter ? el('Delimiter', encode(delimiter)) : undefined,
            el('IsTruncated', truncated),
            page.map(u => el('Upload', el('Key', encode(u.byteKey)), el('UploadId', u.id), el('StorageClass', u.storageClass),
                el('Initiator', el('ID', '100000000001'), el('DisplayName', '100000000001')), OWNER, el('Initiated', iso(u.initiated)))),
            [...groups].map(g => el('CommonPrefixes', el('Prefix', encode(g))))));
    },

    async CompleteMultipartUpload(r, bucket) {
        const upload = uploadOf(r, bucket);
        if (world.skin.noCommitCondition && createOnly(r))
            throw new StoreError(400, 'InvalidArgument', 'Preconditions are not supported here.');
        mayOverwrite(r, bucket);
        checkMd5(r);
        const wanted = world.skin.completed?.(r.bodyText) ?? completed(r);
        if (!wanted.length || wanted.length > world.opt.max_parts)
            throw new StoreError(400, world.skin.malformed ?? 'MalformedXML', 'A list of parts with number and ETag each is expected.');
        if (wanted.some((p, i) => i > 0 && p.number <= wanted[i - 1].number))
            throw new StoreError(400, 'InvalidPartOrder', 'The list of parts was not in ascending order.');
        const parts = wanted.map(p => {
            const part = upload.parts.get(p.number);
            if (!part || part.etag !== unquoted(p.etag))
                throw new StoreError(400, 'InvalidPart', `Part ${p.number} was not uploaded, or its ETag differs.`, { PartNumber: p.number });
            return part;
        });
        const tiny = parts.slice(0, -1).findIndex(p => p.body.size < world.opt.min_part);
        if (tiny >= 0)
            throw new StoreError(400, 'EntityTooSmall', `A part which is not the last is smaller than ${world.opt.min_part} bytes.`,
                { PartNumber: wanted[tiny].number });
        const size = parts.reduce((sum, p) => sum + p.body.size, 0);
        const crc64 = parts.reduce((crc, p) => combine(crc, p.crc64, p.body.size), 0n);
        limitSize(size, 50000 * GIB, 'An object');
        const { headers, meta, storageClass, sse } = upload;
        const etag = partsEtag(wanted.length);
        const object = await known({ headers, meta, storageClass, sse, body: Body.concat(parts.map(p => p.body)), etag, crc64,
            modified: now(), ...world.skin.version?.() });
        bucket.put(r.byteKey, object);
        bucket.dropUpload(r.query.get('uploadId'));
        return answer('complete', [r, object], () => el('CompleteMultipartUploadResult', el('Location', `http://${r.host}${r.rawPath}`), el('Bucket', bucket.name),
            el('Key', r.key), el('ETag', quoted(etag))), { ...(world.skin.muteCommits ? {} : checksum(r, object)), ...etagInHead(etag) });
    },

    AbortMultipartUpload(r, bucket) {
        uploadOf(r, bucket);
        bucket.dropUpload(r.query.get('uploadId'));
        return { status: 204 };
    },

    PostObjectRestore(r, bucket) {
        const object = objectOf(bucket, r.byteKey);
        if (world.skin.restoreNeedsMd5 && !r.headers.has('content-md5'))
            throw new StoreError(400, 'MissingContentMD5', 'Content-MD5 is required for this request.');
        checkMd5(r);
        const header = world.skin.restoreDays, root = header ? undefined : readXml(r);
        const days = Number(header ? r.headers.get(header) : xml.childText(root, 'Days'));
        if ((root && root.name !== 'RestoreRequest') || !(days >= 1))
            throw new StoreError(400, 'MalformedXML', 'RestoreRequest with Days is expected.');
        if (!world.skin.archived.includes(object.storageClass))
            throw new StoreError(403, 'InvalidObjectState', 'The object is not archived.');
        const again = restored(object);
        if (object.restoreReady !== undefined && !again)
            throw new StoreError(409, 'RestoreAlreadyInProgress', 'Object restore is already in progress.');
        object.restoreReady ??= Date.now() + world.opt.restore_ms;
        object.restoreUntil = Date.now() + days * 86400000;
        return { status: again ? 200 : 202 };
    },

    PutBucket(r) {
        if (world.buckets.has(r.bucketName))
            throw new StoreError(409, 'BucketAlreadyOwnedByYou', 'The bucket exists.');
        makeBucket(`${r.bucketName}@${r.region ?? world.opt.region}`);
        return { status: 200 };
    },
};

