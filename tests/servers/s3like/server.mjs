// The base of the servers which speak like S3: COS, OSS, KS3, GCS, BOS. It answers as the provider's protocol says, is strict where a
// client may be wrong, and has every signature checked by the provider's own SDK. What a provider brings is its skin:
//   env         prefix of the shell assignments        server      the Server header
//   vendor      "x-cos-", or vendorOf(request)         crc         what is behind it in the checksum's name
//   options     defaults of the command line's options (see below), limits among them
//   clockCode   code of a refusal because of the clock
//   classes     storage classes, the default first     archived    those of them that must be restored
//   alwaysClass the default class is said too          objectHeaders(object), listFacts(object)   more about an object
//   encryptions, directives (keep, replace), encode(key) for encoding-type=url, upperEtags, crcElement (in answers to copies)
//   locate(host, path)    { bucketName, region, key }
//   elsewhere(r, bucket)  the refusal of a bucket through another region's host; undefined when it is allowed
//   copySource(r, source, bad)  { bucketName, region, rawKey }    copiesInRegion  only there
//   keyFault(byteKey)     a refusal                    badMetaName     a regular expression
//   authenticate(r, credentials, now_s, clockCode)     requestHeaders(id)   of each answer
//   errorElements(r, err, id)  more in an <Error>      headError       the header which carries it for HEAD, in base64
//   etagInHead, lenientRanges, quietIsMute, restoreNeedsMd5, restoreDays, badDigest, listPage, regionless, removesOnlyWhatIs, noBatch, noPartCopy,
//   noCommitCondition, muteCommits, classInRefusals, metaPrefixCounts, encryptionHeader, standardHeaders   odd habits
//   asked(query)          the family's parameters, where the provider calls them otherwise; the request's own are r.sent then
//   results, contentType  the bodies of answers where they are other documents: "list" "copy" "part" "begin" "complete" "parts"
//                         "uploads", each a function; errorBody(r, err, id); completed(text), deleted(text): what such bodies say;
//                         malformed: the code of a refusal of one
//   crc32c()              makes a CRC-32C; checksum(bytes)  headers, instead of the CRC64;  partsEtag(n)  of an object made of parts
//   createOnly(r)         whether nothing must be overwritten, overwriteRefused [status, code];  version()  more facts of a new object
//   checkBody(r)          more checks of what came;  transcoded(r, object, headers)  other bytes than the object's
//   announced(opt)        more shell assignments
//
//   node server.mjs --dir DIR [--port N] [--control N] [--log FILE] [--ready FILE] [--region NAME]
//        [--bucket NAME[@REGION] …] [--cred ID:SECRET[:TOKEN] …]
//        [--max-put 5G] [--max-part 5G] [--max-copy 5G] [--min-part 1M] [--max-parts 10000] [--max-meta 2048] [--max-key 850]
//        [--restore-ms 1000]
//
// Buckets answer at the provider's virtual hosts (the port is ignored) and, for any other host, at /<bucket>/. DIR receives
// bodies over 1 MiB and is emptied at the start.
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
//   POST   /_ctl/clock {offset_s, code}  shift the server's clock; code of the refusal
//   GET    /_ctl/uploads                 open multipart uploads with their parts
//   GET    /_ctl/objects/BUCKET[?prefix=] every object: key size etag md5 crc64 headers meta storage_class modified
//   GET    /_ctl/stat/BUCKET/KEY[?field=NAME]  one of them; with field= (md5, size, headers.content-type, meta.mtime …) as plain text
//   GET PUT DELETE /_ctl/object/BUCKET/KEY  bytes; PUT takes x-…-meta-* and standard headers, ?opaque=N for a multipart ETag
//   PUT    /_ctl/bucket/BUCKET[@REGION]  DELETE the same, with all it holds
//   POST   /_ctl/set {name: value}       change a limit above (max_put, restore_ms …)
//   GET    /_ctl/ready                   POST /_ctl/quit
import { options, RequestLog, Faults, controlServer, listen, announce, operation, sleep } from '../common.mjs';
import { storeRoutes } from '../control.mjs';
import { FAULT_ACTIONS, requestServer } from '../serve.mjs';
import { Body, toBytes, toText, useDirectory } from '../store.mjs';
import { StoreError } from './errors.mjs';
import { checksum, crc32cOf, description, limitSize, makeBucket, operations, partsEtag, percentDecode, quoted, xmlReply } from './operations.mjs';
import { world, now } from './world.mjs';
import { el } from '../xml.mjs';

const NOT_HERE = ['acl', 'cors', 'lifecycle', 'policy', 'tagging', 'replication', 'website', 'inventory', 'logging', 'versions', 'domain',
    'list-type', 'append', 'objectMeta', 'symlink'];
const GIB = 1024 ** 3;

// ---- requests

function parseQuery(text) {
    const query = new Map();
    for (const pair of text === '' ? [] : text.split('&')) {
        const cut = pair.indexOf('=');
        const name = percentDecode(cut < 0 ? pair : pair.slice(0, cut));
        // Half the world reads a bare plus as a blank. A client must not leave it to the server.
        if (pair.includes('+'))
            throw new StoreError(400, 'InvalidURI', 'A plus sign in a parameter is ambiguous.');
        if (query.has(name))
            throw new StoreError(400, 'InvalidArgument', `The parameter ${name} is given twice.`);
        query.set(name, cut < 0 ? '' : percentDecode(pair.slice(cut + 1)));
    }
    return query;
}

function understand(r) {
    r.vendor = world.skin.vendor;
    r.path = percentDecode(r.rawPath);
    r.sent = parseQuery(r.rawQuery);
    r.query = world.skin.asked?.(r.sent) ?? r.sent;
    Object.assign(r, world.skin.locate(r.host.replace(/:\d+$/, '').toLowerCase(), r.path));
    r.vendor = world.skin.vendorOf?.(r) ?? r.vendor;
    r.byteKey = toBytes(r.key);
    r.op = operation(r.method, r.bucketName, r.key, n => r.query.has(n), r.headers.has(`${r.vendor}copy-source`));
}

function bucketOf(r) {
    const bucket = world.buckets.get(r.bucketName);
    if (!bucket)
        throw new StoreError(404, 'NoSuchBucket', 'The specified bucket does not exist.');
    const refusal = r.region && r.region !== bucket.region && world.skin.elsewhere(r, bucket);
    if (refusal)
        throw refusal;
    return bucket;
}

// ---- one request

const TAKES_BODY = ['PutObject', 'UploadPart', 'DeleteMultipleObjects', 'CompleteMultipartUpload', 'PostObjectRestore', 'PutBucket',
    'InitiateMultipartUpload', 'CopyObject', 'UploadPartCopy'];
const NEEDS_LENGTH = ['PutObject', 'UploadPart', 'CopyObject', 'UploadPartCopy'];

function errorReply(r, err, requestId) {
    if (!(err instanceof StoreError)) {
        console.error(err);
        err = new StoreError(500, 'InternalError', err.message);
    }
    const own = world.skin.errorBody?.(r, err, requestId);
    const reply = own ? { status: err.status, headers: { 'Content-Type': world.skin.contentType, ...err.headers }, body: Buffer.from(own) } : xmlReply(el('Error', el('Code', err.code), el('Message', err.message), el('RequestId', requestId),
        world.skin.errorElements(r, err, requestId), Object.entries(err.extra).map(([k, v]) => el(k, v))), err.headers, err.status);
    if (world.skin.headError && r.method === 'HEAD')
        reply.headers[world.skin.headError] = reply.body.toString('base64');
    reply.code = err.code;
    return reply;
}

async function admit(r) {
    await world.skin.authenticate(r, world.credentials, Math.floor(now() / 1000), world.clock.code);
    if (r.op === 'Unknown' || !(r.op in operations))
        throw new StoreError(405, 'MethodNotAllowed', 'The method is not allowed against this resource.');
    const odd = NOT_HERE.find(n => r.query.has(n));
    if (odd)
        throw new StoreError(501, 'NotImplemented', `?${odd} is not part of this server.`);
    if (NEEDS_LENGTH.includes(r.op) && !r.headers.has('content-length'))
        throw new StoreError(411, 'MissingContentLength', 'You must provide the Content-Length HTTP header.');
    const announced = Number(r.headers.get('content-length') ?? 0);
    if (r.op === 'PutObject')
        limitSize(announced, world.opt.max_put, 'A single upload');
    if (r.op === 'UploadPart')
        limitSize(announced, world.opt.max_part, 'A part');
}

function run(r) {
    world.skin.checkBody?.(r);
    return operations[r.op](r, r.op === 'GetService' || r.op === 'PutBucket' ? null : bucketOf(r));
}
const dated = (r, entry) => ({ 'Date': new Date(now()).toUTCString(), ...world.skin.requestHeaders(entry.request_id) });

// What only some answers of this family can be.
const special = {
    error200: (r, rule, { entry, finish }) => finish(errorReply(r, new StoreError(200, rule.code ?? 'InternalError', 'Injected.'), entry.request_id)),
    async keepalive(r, rule, { res, entry, done }) {
        entry.status = 200;
        res.writeHead(200, { 'Content-Type': 'application/xml', ...dated(r, entry) });
        for (let waited = 0; waited < (rule.ms ?? 1000); waited += 100) {
            res.write(' ');
            await sleep(100);
        }
        let reply;
        try {
            reply = rule.code ? errorReply(r, new StoreError(200, rule.code, 'Injected.'), entry.request_id) : await run(r);
        } catch (err) {
            reply = errorReply(r, err, entry.request_id);
        }
        entry.code = reply.code;
        done();
        res.end(reply.body);
    },
    async wrong_etag(r, rule, { finish }) {
        const reply = await run(r);
        await finish({ ...reply, headers: { ...reply.headers, 'ETag': quoted('0'.repeat(32)), ...checksum(r, { crc64: 1, crc32c: 1, md5: '0'.repeat(32) }) } }, rule);
    },
};
const faults = new Faults([...FAULT_ACTIONS, ...Object.keys(special)]);

// ---- control

const facts = (key, o) => ({ key: toText(key), size: o.body.size, etag: o.etag, md5: o.md5, crc64: String(o.crc64), crc32c: o.crc32c, headers: o.headers, meta: o.meta,
    storage_class: o.storageClass, sse: o.sse, modified: o.modified });
async function makeObject(bytes, query, headers) {
    const about = description({ vendor: world.skin.vendor, headers });
    const body = Body.of(bytes), crc32c = world.skin.crc32c && await crc32cOf(body);
    const etag = query.has('opaque') ? partsEtag(query.get('opaque')) : world.skin.upperEtags ? body.md5.toUpperCase() : body.md5;
    const object = { ...about, body, etag, md5: body.md5, crc64: body.crc64, crc32c, modified: now(), ...world.skin.version?.() };
    return [object, { etag, size: bytes.length, crc64: String(body.crc64) }];
}

export async function serve(skin) {
    const opt = options({ dir: '', port: 0, control: 0, log: '', ready: '', max_put: 5 * GIB, max_part: 5 * GIB, max_copy: 5 * GIB,
        min_part: 1048576, max_parts: 10000, max_meta: 2048, max_key: 1024, restore_ms: 1000, ...skin.options });
    Object.assign(world, { skin, opt });
    world.clock.code = skin.clockCode;
    for (const [id, secret, token] of opt.cred.map(c => c.split(':')))
        world.credentials.set(id, { secret, token });
    useDirectory(opt.dir);
    opt.bucket.forEach(makeBucket);
    const server = requestServer({
        log: new RequestLog(opt.log), faults, understand, admit, run, refusal: errorReply, special, crc32c: skin.crc32c,
        injected: rule => new StoreError(rule.status ?? 503, rule.code ?? 'SlowDown', rule.message ?? 'Injected.', {}, rule.headers ?? {}),
        head: (r, entry) => ({ 'Server': skin.server, ...dated(r, entry) }),
        received: r => { r.bodyText = r.kept.toString('utf8'); },
        keepsBody: r => !TAKES_BODY.includes(r.op) || ['PutObject', 'UploadPart'].includes(r.op),
    });
    const { buckets, credentials, clock } = world;
    const control = controlServer(faults, storeRoutes({
        buckets, credentials, clock, opt, makeBucket, facts, makeObject,
        uploadFacts: u => ({ initiated: u.initiated, meta: u.meta, headers: u.headers }),
    }));
    const port = await listen(server, opt.port);
    const controlPort = await listen(control, opt.control);
    const [firstId, first] = [...world.credentials][0];
    const said = {
        HOST: '127.0.0.1', PORT: port, CONTROL: controlPort, ENDPOINT: `http://127.0.0.1:${port}`, REGION: opt.region,
        BUCKET: opt.bucket[0], BUCKETS: [...world.buckets.keys()].join(' '), SECRET_ID: firstId, SECRET_KEY: first.secret,
        TOKEN: first.token ?? '', LOG: opt.log, PID: process.pid, ...skin.announced?.(opt),
    };
    announce(opt.ready, Object.fromEntries(Object.entries(said).map(([name, value]) => [`${skin.env}_${name}`, value])));
}
