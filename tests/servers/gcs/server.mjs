// Google Cloud Storage's XML API for tests on 127.0.0.1. By what signatures and tokens are judged: auth.mjs. See ../s3like/server.mjs; here
// is what only Google does.
//
// More options: [--service-account FILE]. Buckets answer at storage.googleapis.com/<bucket>/ (any other host likewise) and
// <bucket>.storage.googleapis.com. The key file of one service account is made at the start, in DIR's neighbour DIR-account.json unless
// named.
import crypto from 'node:crypto';
import fs from 'node:fs';
import zlib from 'node:zlib';
import { CRC32C } from '../crc32c.mjs';
import { serve } from '../s3like/server.mjs';
import { StoreError } from '../s3like/errors.mjs';
import { quoted } from '../s3like/operations.mjs';
import { now } from '../s3like/world.mjs';
import { pathStyle, sourceName } from '../s3like/skins.mjs';
import { toText } from '../store.mjs';
import * as xml from '../xml.mjs';
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
    return { SERVICE_ACCOUNT: file };
}

// encoding-type=url: percent-encoded all but what needs no encoding, blanks too.
const encoded = bytes => bytes.replace(/[^A-Za-z0-9\-_.~/]/g, c => '%' + c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0'));
function list(r, p) {
    const encode = r.query.has('encoding-type') ? encoded : toText, v2 = r.sent.get('list-type') === '2';
    return xml.document(el('ListBucketResult', el('Name', p.bucket.name), el('Prefix', encode(p.prefix)), p.delimiter ? el('Delimiter', encode(p.delimiter)) : undefined,
        r.query.has('encoding-type') ? el('EncodingType', 'url') : undefined, el('MaxKeys', p.max), el('IsTruncated', p.truncated),
        p.truncated ? v2 ? el('NextContinuationToken', Buffer.from(p.next, 'latin1').toString('base64')) : el('NextMarker', encode(p.next)) : undefined,
        p.objects.map(o => el('Contents', el('Key', encode(o.key)), el('Generation', o.generation), el('MetaGeneration', 1),
            el('LastModified', new Date(o.modified).toISOString()), el('ETag', quoted(o.etag)), el('Size', o.body.size),
            o.storageClass !== 'STANDARD' ? el('StorageClass', o.storageClass) : undefined)),
        p.prefixes.map(x => el('CommonPrefixes', el('Prefix', encode(x))))));
}

function crcText(n) {
    const b = Buffer.alloc(4);
    b.writeUInt32BE(n);
    return b.toString('base64');
}

await serve({
    env: 'GCS', server: 'UploadServer', vendor: 'x-goog-', clockCode: 'RequestTimeTooSkewed', contentType: 'application/xml; charset=UTF-8',
    options: { region: 'us', bucket: ['test-bucket'], cred: ['GOOG1ETESTTESTTEST:testSecretKeyForTestsOnly'], min_part: 5 << 20, max_meta: 8192,
        service_account: '' },
    announced: makeAccount,
    classes: ['STANDARD', 'NEARLINE', 'COLDLINE', 'ARCHIVE', 'MULTI_REGIONAL', 'REGIONAL', 'DURABLE_REDUCED_AVAILABILITY'], archived: [],
    encryptionHeader: 'encryption-kms-key-name',
    directives: ['COPY', 'REPLACE'],
    // Expires is no metadata of an object here.
    standardHeaders: ['cache-control', 'content-disposition', 'content-encoding', 'content-language', 'content-type'],
    encode: encoded,
    copySource: sourceName,
    regionless: true, removesOnlyWhatIs: true, noBatch: true, noPartCopy: true, noCommitCondition: true, muteCommits: true,
    requestHeaders: id => ({ 'X-GUploader-UploadID': id }),
    results: { list },

    locate(host, path) {
        const virtual = VIRTUAL.exec(host);
        return virtual ? { bucketName: virtual[1], key: path.slice(1), inHost: true } : { ...pathStyle(path), inHost: false };
    },
    asked(sent) {
        if (sent.get('list-type') !== '2')
            return sent;
        const query = new Map(sent), token = sent.get('continuation-token');
        query.delete('list-type');
        return query.set('marker', token === undefined ? sent.get('start-after') ?? '' : Buffer.from(token, 'base64').toString('utf8'));
    },
    authenticate: (r, credentials, now_s) => authenticate({ ...r, query: r.sent }, credentials, account, now_s),
    checkBody,
    keyFault: key => key === '.' || key === '..' || /[\r\n]/.test(key) || key.startsWith('.well-known/acme-challenge/')
        ? new StoreError(400, 'InvalidObjectName', 'The specified object name is not valid.') : undefined,
    errorBody: (r, err, id) => xml.document(el('Error', el('Code', err.code), el('Message', err.message), el('Details', `request ${id}`))),
    crc32c: () => new CRC32C(),
    // Of an object made of parts there is no MD5.
    checksum: b => ({ 'x-goog-hash': `crc32c=${crcText(b.crc32c)}`
        + (b.md5 && (b.etag ?? b.md5) === b.md5 ? `,md5=${Buffer.from(b.md5, 'hex').toString('base64')}` : '') }),
    version: () => ({ generation: String(now()) + String(crypto.randomInt(1000)).padStart(3, '0') }),
    objectHeaders: o => ({ 'x-goog-generation': o.generation, 'x-goog-metageneration': '1', 'x-goog-stored-content-length': String(o.body.size),
        'Expires': new Date().toUTCString(), ...(!o.headers['cache-control'] && { 'Cache-Control': 'private, max-age=0' }) }),
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
    // Opaque, and no answer has an MD5 of it.
    partsEtag: () => `-C${crypto.randomBytes(8).toString('base64').replace(/[+/=]/g, 'x')}EAE=`,
    createOnly: r => r.headers.get('x-goog-if-generation-match') === '0', overwriteRefused: [412, 'PreconditionFailed'],
});
