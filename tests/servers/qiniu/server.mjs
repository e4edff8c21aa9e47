// A Qiniu Kodo server for tests on 127.0.0.1: its own API, all hosts on one port. It answers as the provider's protocol says, is
// strict where a client may be wrong, and has every signature checked by the official SDK (auth.mjs).
//
//   node server.mjs --dir DIR [--port N] [--control N] [--log FILE] [--ready FILE] [--region z0] [--bucket NAME[@REGION] …]
//        [--cred AK:SK …] [--domain NAME=BUCKET[:public] …] [--one-host NAME] [--min-part 1M] [--max-part 1G] [--max-meta 1024]
//        [--max-key 750] [--page 1000] [--restore-ms 1000] [--chgm-merge] [--stale-cdn]
//
// Hosts (the port is ignored): rs-REGION and rsf-REGION.qiniuapi.com, up-REGION and upload-REGION.qiniup.com, uc.qiniuapi.com, the
// domains, and the one host that is all of them as a private cloud has it. DIR receives bodies over 1 MiB and is emptied at the start.
// --chgm-merge: chgm keeps metadata it does not name. --stale-cdn: a domain keeps what it served, by the URL without its token.
//
// Log and faults: see s3like/server.mjs and serve.mjs; op names are COS's where there is such an operation, else Stat, Copy, Delete,
// Batch, ChangeMeta, ChangeType, Restore, List. A form's key is known only after its body: fault rules do not see it.
//     error298    answer a batch so: each entry failed with code (599); nothing is applied
//     wrong_hash  apply, but answer with another hash
//     processed   a read gets other bytes under the same etag
//
// Control port (control.mjs): cred clock set uploads objects stat object bucket; PUT object takes x-qn-meta-* headers, content-type,
// ?type=N.
import crypto from 'node:crypto';
import { options, RequestLog, Faults, controlServer, listen, announce, byteRange } from '../common.mjs';
import { storeRoutes } from '../control.mjs';
import { FAULT_ACTIONS, requestServer } from '../serve.mjs';
import { Body, Bucket, toBytes, toText, useDirectory } from '../store.mjs';
import { QiniuError, checkRead, checkRequest, checkUpload, qiniu } from './auth.mjs';
import { hashOf, hashOfParts } from './qetag.mjs';

const { util } = qiniu;
const opt = options({
    dir: '', port: 0, control: 0, log: '', ready: '', region: 'z0', bucket: ['objmig-test'], cred: ['testAccessKey:testSecretKeyForTestsOnly'],
    domain: ['cdn.objmig.test=objmig-test', 'open.objmig.test=objmig-test:public'], one_host: 'kodo.objmig.test',
    min_part: 1048576, max_part: 1024 ** 3, max_meta: 1024, max_key: 750, page: 1000, restore_ms: 1000, chgm_merge: false, stale_cdn: false,
});

useDirectory(opt.dir);
const log = new RequestLog(opt.log);
const faults = new Faults([...FAULT_ACTIONS, 'error298', 'wrong_hash', 'processed']);
const buckets = new Map();
const credentials = new Map(opt.cred.map(c => {
    const [id, secret] = c.split(':');
    return [id, { secret }];
}));
const domains = new Map(opt.domain.map(d => {
    const [, name, bucket, open] = /^([^=]+)=([^:]+)(:public)?$/.exec(d);
    return [name, { bucket, open: Boolean(open) }];
}));
const clock = { offset_s: 0 };
const now = () => Date.now() + clock.offset_s * 1000;
const now_s = () => Math.floor(now() / 1000);

function makeBucket(spec) {
    const [name, region] = spec.split('@');
    const bucket = new Bucket(name, region ?? opt.region);
    buckets.set(name, bucket);
    return bucket;
}
opt.bucket.forEach(makeBucket);

// ---- requests

const decode = text => {
    const bytes = Buffer.from(util.urlSafeToBase64(text), 'base64');
    if (util.urlsafeBase64Encode(bytes) !== text)
        throw new QiniuError(400, 'invalid base64');
    return bytes.toString('utf8');
};
const entry = text => {
    const name = decode(text), cut = name.indexOf(':');
    if (cut < 0)
        throw new QiniuError(400, 'invalid entry');
    return { bucketName: name.slice(0, cut), key: name.slice(cut + 1) };
};

const RS_OPS = { stat: 'Stat', copy: 'Copy', move: 'Move', delete: 'Delete', chgm: 'ChangeMeta', chtype: 'ChangeType', restoreAr: 'Restore' };

// What an rs operation's path says; a batch has many of them.
function rsPath(path) {
    const [, verb, first, ...rest] = path.split('/');
    if (!(verb in RS_OPS) || !first)
        throw new QiniuError(400, 'invalid argument');
    return { op: RS_OPS[verb], rest, ...entry(first) };
}

function roleOf(r) {
    const host = r.host.replace(/:\d+$/, '').toLowerCase();
    const m = /^(rsf?|api)-([a-z0-9-]+)\.qiniuapi\.com$/.exec(host) ?? /^(up)(?:load)?-([a-z0-9-]+)\.qiniup\.com$/.exec(host);
    if (m)
        return [m[1], m[2]];
    if (host === 'uc.qiniuapi.com')
        return ['uc'];
    if (domains.has(host)) {
        r.domain = domains.get(host);
        return ['io'];
    }
    if (host !== opt.one_host)
        throw new QiniuError(404, 'no such host');
    r.domain = { bucket: opt.bucket[0], open: false };
    const authorization = r.headers.get('authorization') ?? '';
    if (authorization.startsWith('Qiniu '))
        return [r.rawPath.startsWith('/list') ? 'rsf' : 'rs', opt.region];
    return [authorization.startsWith('UpToken ') || r.method === 'POST' ? 'up' : 'io', opt.region];
}

function understandUpload(r) {
    if (r.rawPath === '/' && r.method === 'POST' && /^multipart\/form-data/.test(r.headers.get('content-type') ?? ''))
        return void (r.op = 'PutObject');
    const m = /^\/buckets\/([^/]+)\/objects\/([^/]+)\/uploads(?:\/([^/]+))?(?:\/(\d+))?$/.exec(r.rawPath);
    if (!m)
        return;
    Object.assign(r, { bucketName: m[1], key: m[2] === '~' ? '' : decode(m[2]), uploadId: m[3] && decodeURIComponent(m[3]),
        number: Number(m[4]) });
    r.op = m[4] ? { PUT: 'UploadPart' }[r.method] : m[3] ? { GET: 'ListParts', POST: 'CompleteMultipartUpload', DELETE: 'AbortMultipartUpload' }[r.method]
        : { POST: 'InitiateMultipartUpload' }[r.method];
}

function understand(r) {
    if (r.rawQuery.includes('+'))
        throw new QiniuError(400, 'a plus sign in a parameter is ambiguous');
    r.query = new Map(new URLSearchParams(r.rawQuery));
    [r.role, r.region] = roleOf(r);
    r.op = 'Unknown';
    if (r.role === 'io') {
        r.bucketName = r.domain.bucket;
        r.key = decodeURIComponent(r.rawPath.slice(1));
        r.op = { GET: 'GetObject', HEAD: 'HeadObject' }[r.method];
    } else if (r.role === 'up') {
        understandUpload(r);
    } else if (r.role === 'rsf' && r.rawPath === '/list') {
        r.op = 'List';
        r.bucketName = r.query.get('bucket') ?? '';
    } else if (r.role === 'rs') {
        if (r.rawPath === '/batch' && r.method === 'POST')
            r.op = 'Batch';
        else
            Object.assign(r, rsPath(r.rawPath));
    } else if (r.role === 'uc') {
        r.op = { '/v4/query': 'QueryRegions', '/buckets': 'ListBuckets', '/v3/domains': 'ListDomains' }[r.rawPath];
    }
    r.op ??= 'Unknown';
}

function bucketOf(name, r) {
    const bucket = buckets.get(name);
    if (!bucket || (r.region && r.region !== bucket.region && r.role !== 'up'))
        throw new QiniuError(631, 'no such bucket');
    if (r.region && r.region !== bucket.region)
        throw new QiniuError(400, `incorrect region, please use up-${bucket.region}.qiniup.com`);
    return bucket;
}

function objectOf(bucket, key) {
    const object = bucket.objects.get(toBytes(key));
    if (!object)
        throw new QiniuError(612, 'no such file or directory');
    return object;
}

const restored = object => object.restoreReady !== undefined && Date.now() >= object.restoreReady;
function usable(object) {
    if ([2, 3].includes(object.type) && !restored(object))
        throw new QiniuError(403, 'invalid object status');
    return object;
}

// ---- metadata

function checkMeta(meta) {
    let size = 0;
    for (const [name, value] of Object.entries(meta)) {
        if (!/^!?[A-Za-z0-9_-]{1,50}$/.test(name))
            throw new QiniuError(400, `invalid meta key ${name}`);
        if (!name.startsWith('!') && !/^[A-Za-z0-9.+/;=,_ -]*$/.test(value))
            throw new QiniuError(400, `invalid meta value of ${name}`);
        size += name.length + Buffer.byteLength(value);
    }
    if (size > opt.max_meta)
        throw new QiniuError(400, `meta of ${size} bytes is too large`);
    return meta;
}
const metaOf = pairs => checkMeta(Object.fromEntries([...pairs].filter(([n]) => /^x-qn-meta-/i.test(n))
    .map(([n, v]) => [n.slice(10).toLowerCase(), v])));

function mimeOf(text) {
    if (text !== undefined && (text.length > 200 || text.includes('%')))
        throw new QiniuError(400, 'invalid mime type');
    return text || 'application/octet-stream';
}

const facts = o => ({
    fsize: o.body.size, hash: o.hash, mimeType: o.mime, putTime: Math.floor(o.modified) * 10000 + 7, type: o.type, status: 0,
    ...(o.restoreReady !== undefined && { restoreStatus: restored(o) ? 2 : 1 }),
    ...(Object.keys(o.meta).length && { 'x-qn-meta': o.meta }),
});

const json = (value, status = 200, headers = {}) => ({ status, headers: { 'Content-Type': 'application/json', ...headers }, body: Buffer.from(JSON.stringify(value)) });

// ---- uploads

// Fields of a form: NAME -> { value: Buffer, type }.
function parseForm(r) {
    const m = /boundary="?([^";]+)"?/.exec(r.headers.get('content-type'));
    const mark = Buffer.from(`\r\n--${m?.[1]}`), bytes = Buffer.concat([Buffer.from('\r\n'), r.kept]), fields = new Map();
    const bad = () => new QiniuError(400, 'invalid multipart format');
    let at = bytes.indexOf(mark);
    for (;;) {
        if (at < 0)
            throw bad();
        at += mark.length;
        if (bytes.subarray(at, at + 2).toString() === '--')
            return fields;
        const head = bytes.indexOf('\r\n\r\n', at), end = bytes.indexOf(mark, head + 2);
        if (head < 0 || end < 0)
            throw bad();
        const text = bytes.subarray(at, head).toString('utf8');
        const name = /name="([^"]*)"/.exec(text)?.[1];
        if (name === undefined || fields.has(name))
            throw bad();
        fields.set(name, { value: bytes.subarray(head + 4, end), type: /content-type: *(.*)/i.exec(text)?.[1].trim(), first: fields.size === 0 });
        at = end;
    }
}

function storeIfAllowed(bucket, key, policy, object) {
    const old = bucket.objects.get(toBytes(key));
    if (old && (policy.insertOnly || !policy.fixed)) {
        if (old.hash !== object.hash) {
            object.body.drop();
            throw new QiniuError(614, 'file exists');
        }
        object.body.drop(); // the same content: nothing happens
    } else {
        bucket.put(toBytes(key), object);
    }
    return json({ hash: object.hash, key });
}

function checkKey(key) {
    if (Buffer.byteLength(key) > opt.max_key)
        throw new QiniuError(400, 'key is too long');
}

function uploadOf(r) {
    const bucket = bucketOf(r.bucketName, r);
    const authorization = r.headers.get('authorization') ?? '';
    const policy = checkUpload(authorization.startsWith('UpToken ') ? authorization.slice(8) : '', credentials, now_s(), r.bucketName, r.key);
    const upload = r.uploadId && bucket.uploads.get(r.uploadId);
    if (r.uploadId && (!upload || upload.byteKey !== toBytes(r.key)))
        throw new QiniuError(612, 'no such uploadId');
    return { bucket, policy, upload };
}

const expireAt = () => now_s() + 7 * 86400;

// ---- operations

const rs = {
    Stat: (r, bucket) => facts(objectOf(bucket, r.key)),
    Delete(r, bucket) {
        if (!bucket.remove(toBytes(r.key)))
            throw new QiniuError(612, 'no such file or directory');
    },
    Copy(r, bucket) {
        const source = usable(objectOf(bucket, r.key)), to = entry(r.rest[0]), target = bucketOf(to.bucketName, r);
        checkKey(to.key);
        if (target.objects.has(toBytes(to.key)) && !(r.rest[1] === 'force' && r.rest[2] === 'true'))
            throw new QiniuError(614, 'file exists');
        if (target !== bucket || to.key !== r.key)
            target.put(toBytes(to.key), { ...source, meta: { ...source.meta }, body: source.body.slice(0, source.body.size), modified: now() });
    },
    Move(r, bucket) {
        rs.Copy(r, bucket);
        rs.Delete(r, bucket);
    },
    ChangeMeta(r, bucket) {
        const object = usable(objectOf(bucket, r.key)), said = {};
        for (let i = 0; i + 1 < r.rest.length; i += 2)
            said[r.rest[i]] = decode(r.rest[i + 1]);
        const condition = new URLSearchParams(said.cond ?? '');
        const is = { hash: object.hash, mime: object.mime, fsize: String(object.body.size), putTime: String(facts(object).putTime) };
        for (const [name, value] of condition)
            if (is[name] !== value)
                throw new QiniuError(412, 'condition not match');
        const meta = metaOf(Object.entries(said));
        object.mime = said.mime !== undefined ? mimeOf(said.mime) : meta['!content-type'] ?? object.mime;
        delete meta['!content-type'];
        object.meta = opt.chgm_merge ? { ...object.meta, ...meta } : meta;
    },
    ChangeType(r, bucket) {
        if (r.rest[0] !== 'type' || !/^[0-5]$/.test(r.rest[1]))
            throw new QiniuError(400, 'invalid type');
        usable(objectOf(bucket, r.key)).type = Number(r.rest[1]);
    },
    Restore(r, bucket) {
        const object = objectOf(bucket, r.key);
        if (![2, 3].includes(object.type))
            throw new QiniuError(400, 'the object is not archived');
        object.restoreReady ??= Date.now() + opt.restore_ms;
    },
};

const operations = {
    Batch(r) {
        checkRequest(r, credentials);
        const all = [...new URLSearchParams(r.kept.toString('utf8'))];
        if (all.length > 1000 || all.some(([name]) => name !== 'op'))
            throw new QiniuError(400, 'invalid batch');
        const answers = all.map(([, path]) => {
            try {
                const one = { ...r, ...rsPath(path) };
                const data = rs[one.op](one, bucketOf(one.bucketName, r));
                return { code: 200, ...(data && { data }) };
            } catch (err) {
                if (!(err instanceof QiniuError))
                    throw err;
                return { code: err.status, data: { error: err.message } };
            }
        });
        return json(answers, answers.some(a => a.code !== 200) ? 298 : 200);
    },

    List(r) {
        checkRequest(r, credentials);
        const bucket = bucketOf(r.bucketName, r), limit = Number(r.query.get('limit') ?? 1000);
        if (!(limit >= 1 && limit <= 1000))
            throw new QiniuError(400, 'invalid list limit');
        let marker = '';
        if (r.query.get('marker')) {
            try {
                marker = toBytes(JSON.parse(decode(r.query.get('marker'))).k);
            } catch {
                throw new QiniuError(640, 'invalid list marker');
            }
        }
        const found = bucket.list(toBytes(r.query.get('prefix') ?? ''), toBytes(r.query.get('delimiter') ?? ''), marker, Math.min(limit, opt.page));
        const items = found.keys.map(k => {
            const { 'x-qn-meta': meta, ...rest } = facts(bucket.objects.get(k));
            return { key: toText(k), ...rest };
        });
        return json({
            ...(found.truncated && { marker: util.urlsafeBase64Encode(JSON.stringify({ c: 0, k: toText(found.next) })) }),
            items, ...(found.prefixes.length && { commonPrefixes: found.prefixes.map(toText) }),
        });
    },

    async PutObject(r) {
        const { form } = r;
        const text = name => form.get(name)?.value.toString('utf8');
        const file = form.get('file');
        if (!form.get('token')?.first || !file)
            throw new QiniuError(400, 'token or file not specified');
        const key = text('key'), policy = checkUpload(text('token'), credentials, now_s(), undefined, key);
        const bucket = bucketOf(policy.bucket, r);
        checkKey(key);
        const meta = metaOf([...form].map(([n, f]) => [n, f.value.toString('utf8')]));
        const body = Body.of(file.value);
        return storeIfAllowed(bucket, key, policy, { body, md5: body.md5, hash: await hashOf(body), mime: mimeOf(file.type), meta,
            type: policy.fileType ?? 0, modified: now() });
    },

    InitiateMultipartUpload(r) {
        const { bucket } = uploadOf(r), uploadId = crypto.randomBytes(16).toString('hex');
        checkKey(r.key);
        bucket.uploads.set(uploadId, { byteKey: toBytes(r.key), initiated: now(), parts: new Map() });
        return json({ uploadId, expireAt: expireAt() });
    },

    async UploadPart(r) {
        const { upload } = uploadOf(r), md5 = r.headers.get('content-md5');
        if (r.number < 1 || r.number > 10000)
            throw new QiniuError(400, 'invalid part number');
        if (md5 !== undefined && md5 !== r.body.md5)
            throw new QiniuError(406, 'md5 mismatch');
        if (r.body.size > opt.max_part)
            throw new QiniuError(413, 'part is too large');
        const body = r.takeBody(), part = { body, etag: await hashOf(body), md5: r.body.md5, modified: now() };
        upload.parts.get(r.number)?.body.drop();
        upload.parts.set(r.number, part);
        return json({ etag: part.etag, md5: part.md5 });
    },

    ListParts(r) {
        const { upload } = uploadOf(r), max = Number(r.query.get('max-parts') ?? 1000), from = Number(r.query.get('part-number-marker') ?? 0);
        const all = [...upload.parts].filter(([n]) => n > from).sort((a, b) => a[0] - b[0]), page = all.slice(0, Math.min(max, opt.page));
        return json({
            uploadId: r.uploadId, expireAt: expireAt(), partNumberMarker: page.length < all.length ? page.at(-1)[0] : 0,
            parts: page.map(([partNumber, p]) => ({ size: p.body.size, etag: p.etag, partNumber, putTime: Math.floor(p.modified / 1000) })),
        });
    },

    async CompleteMultipartUpload(r) {
        const { bucket, policy, upload } = uploadOf(r), said = JSON.parse(r.kept.toString('utf8'));
        const meta = metaOf(Object.entries(said.metadata ?? {})), mime = mimeOf(said.mimeType);
        let last = 0;
        const parts = said.parts.map(({ partNumber, etag }, i) => {
            const part = upload.parts.get(partNumber);
            if (!part || part.etag !== etag || partNumber <= last)
                throw new QiniuError(400, 'invalid parts');
            if (i + 1 < said.parts.length && part.body.size < opt.min_part)
                throw new QiniuError(400, 'part is too small');
            last = partNumber;
            return part;
        });
        if (!parts.length)
            throw new QiniuError(400, 'no parts');
        const body = Body.concat(parts.map(p => p.body));
        const answer = storeIfAllowed(bucket, r.key, policy, { body, hash: await hashOfParts(body, parts), mime, meta, type: policy.fileType ?? 0,
            modified: now() });
        bucket.dropUpload(r.uploadId);
        return answer;
    },

    AbortMultipartUpload(r) {
        const { bucket } = uploadOf(r);
        bucket.dropUpload(r.uploadId);
        return { status: 200 };
    },

    GetObject(r) {
        if (!r.domain.open)
            checkRead(r, r.headers.get('x-forwarded-proto') ?? 'http', credentials, now_s());
        const bucket = bucketOf(r.bucketName, r);
        const url = r.rawPath + '?' + r.rawQuery.replace(/&?e=\d+&token=.*$/, '');
        const stale = opt.stale_cdn && cached.get(url);
        const object = stale || bucket.objects.get(toBytes(r.key));
        if (!object)
            throw new QiniuError(404, 'Document not found');
        usable(object);
        if (opt.stale_cdn && !stale)
            cached.set(url, { ...object, body: object.body.slice(0, object.body.size) });
        const { size } = object.body, range = r.headers.has('range') ? byteRange(r.headers.get('range'), size) : null;
        const headers = {
            'Content-Type': object.mime, 'ETag': `"${object.hash}"`, 'Last-Modified': new Date(object.modified).toUTCString(), 'Accept-Ranges': 'bytes',
            'Cache-Control': 'public, max-age=31536000', 'X-Svr': 'IO',
            'Content-Disposition': `inline; filename="${encodeURIComponent(r.key)}"; filename*=utf-8''${encodeURIComponent(r.key)}`,
        };
        for (const [name, value] of Object.entries(object.meta))
            headers[name.startsWith('!') ? canonical(name.slice(1)) : `X-Qn-Meta-${name}`] = value;
        if (range === undefined)
            throw new QiniuError(416, 'Requested Range Not Satisfiable', { 'Content-Range': `bytes */${size}` });
        if (!range)
            return { status: 200, headers, body: object.body.slice(0, size) };
        headers['Content-Range'] = `bytes ${range[0]}-${range[1] - 1}/${size}`;
        return { status: 206, headers, body: object.body.slice(...range) };
    },

    QueryRegions(r) {
        const bucket = bucketOf(r.query.get('bucket'), r), { region } = bucket;
        const role = (...list) => ({ domains: list });
        return json({ hosts: [{ region, ttl: 86400, up: { ...role(`up-${region}.qiniup.com`), acc_domains: [`upload-${region}.qiniup.com`] },
            io: role('iovip.qbox.me'), rs: role(`rs-${region}.qiniuapi.com`), rsf: role(`rsf-${region}.qiniuapi.com`),
            api: role(`api-${region}.qiniuapi.com`), uc: role('uc.qiniuapi.com'), s3: role(`s3-${region}.qiniucs.com`) }] });
    },
    ListBuckets(r) {
        checkRequest(r, credentials);
        return json([...buckets.keys()]);
    },
    ListDomains(r) {
        checkRequest(r, credentials);
        return json([...domains].filter(([, d]) => d.bucket === r.query.get('tbl')).map(([domain, d]) => ({ domain, tbl: d.bucket })));
    },
};
operations.HeadObject = operations.GetObject;
const cached = new Map();
const canonical = name => name.replace(/(^|-)[a-z]/g, c => c.toUpperCase());

async function run(r) {
    if (r.op in rs) {
        checkRequest(r, credentials);
        const data = rs[r.op](r, bucketOf(r.bucketName, r));
        return data ? json(data) : { status: 200, headers: { 'Content-Type': 'application/json' }, body: Buffer.alloc(0) };
    }
    return operations[r.op](r);
}

function admit(r) {
    if (r.op === 'Unknown' || !(r.op in operations || r.op in rs))
        throw new QiniuError(404, 'no such operation');
    const authorization = r.headers.get('authorization') ?? '';
    if (r.role !== 'io' && r.op !== 'PutObject' && r.op !== 'QueryRegions' && authorization === '')
        throw new QiniuError(401, 'bad token');
}

// Only now a form says which object it is.
function received(r) {
    if (r.op === 'PutObject') {
        r.form = parseForm(r);
        r.key = r.form.get('key')?.value.toString('utf8') ?? '';
    }
}

function refusal(r, err) {
    if (!(err instanceof QiniuError)) {
        console.error(err);
        err = new QiniuError(err instanceof SyntaxError ? 400 : 599, err.message);
    }
    return { ...json({ error: err.message, error_code: err.code }, err.status, err.headers), code: err.code };
}

const otherHash = util.urlsafeBase64Encode(Buffer.concat([Buffer.from([0x16]), Buffer.alloc(20)]));
const server = requestServer({
    log, faults, understand, admit, run, refusal, received,
    injected: rule => new QiniuError(rule.status ?? 573, rule.message ?? 'Injected.', rule.headers ?? {}),
    keepsBody: r => ['PutObject', 'UploadPart'].includes(r.op),
    wholeBody: r => r.op === 'UploadPart' ? 0 : r.op === 'PutObject' ? 256 << 20 : 4 << 20,
    head: (r, event) => ({ 'Server': 'nginx', 'Date': new Date(now()).toUTCString(), 'X-Reqid': event.request_id, 'X-Log': 'X-Log' }),
    special: {
        error298: (r, rule, { finish }) =>
            finish(json([...new URLSearchParams(r.kept.toString('utf8'))].map(() => ({ code: rule.code ?? 599, data: { error: 'Injected.' } })), 298)),
        wrong_hash: async (r, rule, { finish }) => {
            const reply = await run(r);
            await finish(json({ ...JSON.parse(reply.body), hash: otherHash, etag: otherHash, md5: '0'.repeat(32) }));
        },
        processed: async (r, rule, { finish }) => {
            const reply = await run(r);
            const { size } = reply.body;
            reply.body.drop();
            await finish({ ...reply, body: Buffer.alloc(size, '?') });
        },
    },
});

// ---- control

const control = controlServer(faults, storeRoutes({
    buckets, credentials, clock, opt, makeBucket,
    facts: (key, o) => ({ key: toText(key), size: o.body.size, etag: o.hash, md5: o.md5, type: o.type, modified: o.modified,
        meta: Object.fromEntries(Object.entries(o.meta).filter(([n]) => !n.startsWith('!'))),
        headers: { 'content-type': o.mime, ...Object.fromEntries(Object.entries(o.meta).filter(([n]) => n.startsWith('!')).map(([n, v]) => [n.slice(1), v])) } }),
    uploadFacts: u => ({ initiated: u.initiated }),
    async makeObject(bytes, query, headers) {
        const body = Body.of(bytes), hash = await hashOf(body);
        return [{ body, md5: body.md5, hash, mime: mimeOf(headers.get('content-type')), meta: metaOf(headers), type: Number(query.get('type') ?? 0),
            modified: now() }, { etag: hash, size: bytes.length }];
    },
}));

const port = await listen(server, opt.port);
const controlPort = await listen(control, opt.control);
const [firstId, first] = [...credentials][0];
announce(opt.ready, {
    QINIU_HOST: '127.0.0.1', QINIU_PORT: port, QINIU_CONTROL: controlPort, QINIU_REGION: opt.region, QINIU_BUCKET: opt.bucket[0],
    QINIU_AK: firstId, QINIU_SK: first.secret, QINIU_DOMAIN: opt.domain[0].split('=')[0], QINIU_OPEN_DOMAIN: opt.domain.at(-1).split('=')[0],
    QINIU_ONE_HOST: opt.one_host, QINIU_LOG: opt.log, QINIU_PID: process.pid,
});
