// Google Cloud Storage's XML API for tests on 127.0.0.1. By what signatures and tokens are judged: auth.mjs.
//
//   node server.mjs --dir DIR [--port N] [--control N] [--log FILE] [--ready FILE] [--bucket NAME …] [--cred ID:SECRET …]
//        [--service-account FILE] [--min-part 5M] [--max-put 5G] …       see rest.mjs, also for log, faults and control port
//
// Buckets answer at storage.googleapis.com/<bucket>/ (any other host likewise) and <bucket>.storage.googleapis.com. The key file of one
// service account is made at the start, in DIR's neighbour DIR-account.json unless named.
import crypto from 'node:crypto';
import zlib from 'node:zlib';
import * as xml from '../xml.mjs';
import { Refusal, fs, iso, percentDecode, quoted, serve, toText } from '../rest.mjs';
import { authenticate, checkBody } from './auth.mjs';

const { el } = xml;
const VIRTUAL = /^(.+)\.storage\.googleapis\.com$/;
let account;

function makeAccount(opt) {
    const { privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
    account = { type: 'service_account', project_id: 'test', private_key_id: crypto.randomBytes(20).toString('hex'),
        private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }), client_email: 'tests@test.iam.gserviceaccount.com',
        token_uri: 'https://oauth2.googleapis.com/token' };
    const file = opt.service_account || `${opt.dir}-account.json`;
    fs.writeFileSync(file, JSON.stringify(account, null, 2) + '\n', { mode: 0o600 });
    return { GCS_SERVICE_ACCOUNT: file };
}

// encoding-type=url: percent-encoded all but what needs no encoding, blanks too.
const encoded = bytes => bytes.replace(/[^A-Za-z0-9\-_.~/]/g, c => '%' + c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0'));
const encoder = r => r.query.has('encoding-type') ? encoded : toText;

const results = {
    list(r, p) {
        const encode = encoder(r), v2 = r.query.get('list-type') === '2';
        return el('ListBucketResult', el('Name', p.bucket.name), el('Prefix', encode(p.prefix)), p.delimiter ? el('Delimiter', encode(p.delimiter)) : undefined,
            r.query.has('encoding-type') ? el('EncodingType', 'url') : undefined, el('MaxKeys', p.max), el('IsTruncated', p.truncated),
            p.truncated ? v2 ? el('NextContinuationToken', Buffer.from(p.next, 'latin1').toString('base64')) : el('NextMarker', encode(p.next)) : undefined,
            p.objects.map(o => el('Contents', el('Key', encode(o.key)), el('Generation', o.generation), el('MetaGeneration', 1),
                el('LastModified', iso(o.modified)), el('ETag', quoted(o.etag)), el('Size', o.body.size),
                o.storageClass !== 'STANDARD' ? el('StorageClass', o.storageClass) : undefined)),
            p.prefixes.map(x => el('CommonPrefixes', el('Prefix', encode(x)))));
    },
    copy: o => el('CopyObjectResult', el('LastModified', iso(o.modified)), el('ETag', quoted(o.etag))),
    begin: (r, id) => el('InitiateMultipartUploadResult', el('Bucket', r.bucketName), el('Key', r.key), el('UploadId', id)),
    complete: (r, o) => el('CompleteMultipartUploadResult', el('Location', `http://${r.host}${r.rawPath}`), el('Bucket', r.bucketName), el('Key', r.key),
        el('ETag', quoted(o.etag))),
    parts: (r, p) => el('ListPartsResult', el('Bucket', r.bucketName), el('Key', r.key), el('UploadId', r.query.get('uploadId')),
        el('PartNumberMarker', p.marker), p.truncated ? el('NextPartNumberMarker', p.next) : undefined, el('MaxParts', p.max), el('IsTruncated', p.truncated),
        p.parts.map(x => el('Part', el('PartNumber', x.number), el('LastModified', iso(x.modified)), el('ETag', quoted(x.etag)), el('Size', x.body.size)))),
    uploads(r, p) {
        const encode = encoder(r);
        return el('ListMultipartUploadsResult', el('Bucket', r.bucketName), r.query.has('encoding-type') ? el('EncodingType', 'url') : undefined,
            el('KeyMarker', encode(p.keyMarker)), el('UploadIdMarker', p.idMarker),
            p.truncated ? [el('NextKeyMarker', encode(p.last.byteKey)), el('NextUploadIdMarker', p.last.id)] : [], el('MaxUploads', p.max),
            el('IsTruncated', p.truncated), p.uploads.map(u => el('Upload', el('Key', encode(u.byteKey)), el('UploadId', u.id),
                el('StorageClass', u.storageClass), el('Initiated', iso(u.initiated)))));
    },
};

function crcText(n) {
    const b = Buffer.alloc(4);
    b.writeUInt32BE(n);
    return b.toString('base64');
}

await serve({
    name: 'gcs', env: 'GCS', vendor: 'x-goog-', requestId: 'X-GUploader-UploadID', contentType: 'application/xml; charset=UTF-8', sse: 'encryption-kms-key-name',
    options: { cred: ['GOOG1ETESTTESTTEST:testSecretKeyForTestsOnly'], max_meta: 8192, service_account: '' },
    announced: makeAccount,
    classes: ['STANDARD', 'NEARLINE', 'COLDLINE', 'ARCHIVE', 'MULTI_REGIONAL', 'REGIONAL', 'DURABLE_REDUCED_AVAILABILITY'], archived: [],
    // Expires is no metadata of an object here.
    standard: ['cache-control', 'content-disposition', 'content-encoding', 'content-language', 'content-type'],
    params: { max: 'max-keys', maxParts: 'max-parts', partMarker: 'part-number-marker', maxUploads: 'max-uploads', keyMarker: 'key-marker', idMarker: 'upload-id-marker' },
    malformed: 'MalformedXML', noCommitCondition: true,

    locate(r) {
        const virtual = VIRTUAL.exec(r.host.replace(/:\d+$/, '').toLowerCase());
        const [, bucket, ...rest] = r.rawPath.split('/');
        if (r.query.get('list-type') === '2')
            r.query.set('marker', r.query.has('continuation-token') ? Buffer.from(r.query.get('continuation-token'), 'base64').toString('utf8')
                : r.query.get('start-after') ?? '');
        r.inHost = virtual !== null;
        return virtual ? { bucketName: virtual[1], key: percentDecode(r.rawPath.slice(1)) } : { bucketName: bucket, key: percentDecode(rest.join('/')) };
    },
    authenticate(r, credentials, now_s) {
        const query = new Map(r.query);
        if (query.get('list-type') === '2')
            query.delete('marker'); // which locate() added
        return authenticate({ ...r, query }, credentials, account, now_s);
    },
    checkBody,
    checkKey(key) {
        if (key === '.' || key === '..' || /[\r\n]/.test(key) || key.startsWith('.well-known/acme-challenge/'))
            throw new Refusal(400, 'InvalidObjectName', 'The specified object name is not valid.');
    },
    error: (r, err, id) => xml.document(el('Error', el('Code', err.code), el('Message', err.message), el('Details', `request ${id}`))),
    headers(o) {
        return { 'x-goog-hash': `crc32c=${crcText(o.crc32c)}` + (o.md5 && !o.composed ? `,md5=${Buffer.from(o.md5, 'hex').toString('base64')}` : ''),
            ...(o.generation && { 'x-goog-generation': o.generation, 'x-goog-metageneration': '1', 'x-goog-stored-content-length': String(o.body.size),
                'Expires': new Date().toUTCString(), ...(!o.headers['cache-control'] && { 'Cache-Control': 'private, max-age=0' }) }) };
    },
    // Google unpacks for whoever does not say that it can.
    async transcoded(r, object, headers) {
        if (object.headers['content-encoding'] !== 'gzip' || /gzip/.test(r.headers.get('accept-encoding') ?? ''))
            return undefined;
        const parts = [];
        for await (const p of object.body.read())
            parts.push(p);
        delete headers['content-encoding'];
        headers.ETag = `W/${headers.ETag}`;
        return zlib.gunzipSync(Buffer.concat(parts));
    },
    result: (what, ...args) => xml.document(results[what](...args)),
    completed(text) {
        let root;
        try {
            root = xml.parse(text);
        } catch (err) {
            throw new Refusal(400, 'MalformedXML', err.message);
        }
        return root.children.map(p => ({ number: Number(xml.childText(p, 'PartNumber')), etag: xml.childText(p, 'ETag') }));
    },
    // Opaque, and no answer has an MD5 of it.
    composite: () => `-C${crypto.randomBytes(8).toString('base64').replace(/[+/=]/g, 'x')}EAE=`,
    absent: r => r.headers.get('x-goog-if-generation-match') === '0',
    metaBytes: (name, value) => name.length + Buffer.byteLength(value),
});
