// An Upyun USS server for tests on 127.0.0.1. It answers as the provider's protocol says, is strict where a client may be
// wrong, and has every signature checked by the official SDK (auth.mjs).
//
//   node server.mjs --dir DIR [--port N] [--control N] [--log FILE] [--ready FILE] [--bucket NAME …] [--cred OPERATOR:PASSWORD …]
//        [--max-put 5G] [--max-part 50M] [--max-parts 10000] [--max-meta 2048] [--max-key 1024] [--page 4096] [--parts-page 1000]
//
// Services answer at /<service>/ of any host. DIR receives bodies over 1 MiB and is emptied at the start. Where documents
// leave something open the server takes the side that is harder for a client: directories are listed in the order of
// writing; copies answer without an ETag and keep the type of their source; parts may be sent once.
//
// Log: as of the COS server; part and upload of an UploadPart. op: ListDir HeadFile GetFile PutFile MakeDir Delete CopyFile MoveFile PatchMetadata InitMultipart
// UploadPart CompleteMultipart CancelMultipart ListParts ListUploads Usage.
// Fault rules: those of serve.mjs, documented in s3like/server.mjs; `code` is a number here (50300000).
//
// Control port:
//   POST   /_ctl/cred {id, password}     add or change one
//   POST   /_ctl/clock {offset_s}        shift the server's clock
//   POST   /_ctl/set {name: value}       change a limit above; no_cancel: true refuses to cancel uploads
//   GET    /_ctl/uploads                 open multipart uploads with their parts
//   GET    /_ctl/objects/BUCKET[?prefix=] every file: key size etag md5 type meta modified
//   GET    /_ctl/folders/BUCKET          every directory
//   GET    /_ctl/stat/BUCKET/KEY[?field=NAME]  one file; with field= (md5, size, type, meta.mtime …) as plain text
//   GET PUT DELETE /_ctl/object/BUCKET/KEY  bytes; PUT takes x-upyun-meta-* and content-type
//   PUT    /_ctl/bucket/BUCKET           DELETE the same, with all it holds
//   GET    /_ctl/ready                   POST /_ctl/quit
import crypto from 'node:crypto';
import { options, RequestLog, Faults, controlServer, listen, announce, percentDecode } from '../common.mjs';
import { storeRoutes } from '../control.mjs';
import { Body, toBytes, toText, useDirectory } from '../store.mjs';
import { FAULT_ACTIONS, requestServer } from '../serve.mjs';
import { authenticate } from './auth.mjs';
import { UpyunError } from './errors.mjs';
import { Tree } from './tree.mjs';

const MIB = 1048576;
const LIST_END = 'g2gCZAAEbmV4dGQAA2VvZg';
const META = 'x-upyun-meta-';
const opt = options({
    dir: '', port: 0, control: 0, log: '', ready: '', bucket: ['test-service'], cred: ['testoperator:testPasswordForTestsOnly'],
    max_put: 5 * 1024 * MIB, max_part: 50 * MIB, max_parts: 10000, max_meta: 2048, max_key: 1024, page: 4096, parts_page: 1000, no_cancel: false,
});

useDirectory(opt.dir);
const log = new RequestLog(opt.log);
const faults = new Faults(FAULT_ACTIONS);
const services = new Map(opt.bucket.map(name => [name, new Tree(name)]));
const operators = new Map(opt.cred.map(c => [c.slice(0, c.indexOf(':')), { password: c.slice(c.indexOf(':') + 1) }]));
const clock = { offset_s: 0 };
const now = () => Date.now() + clock.offset_s * 1000;

// ---- requests

function decoded(text) {
    const key = percentDecode(text);
    if (key === null)
        throw new UpyunError(400, 40001021, 'the key is not UTF-8');
    return key;
}

function operation(r) {
    const has = name => r.headers.has(name);
    const stage = r.headers.get('x-upyun-multi-stage');
    switch (r.method) {
    case 'PUT':
        if (stage !== undefined)
            return { initiate: 'InitMultipart', upload: 'UploadPart', complete: 'CompleteMultipart', cancel: 'CancelMultipart' }[stage] ?? 'WrongStage';
        return has('x-upyun-copy-source') ? 'CopyFile' : has('x-upyun-move-source') ? 'MoveFile' : 'PutFile';
    case 'GET':
        if (r.rawQuery === 'usage')
            return 'Usage';
        if (r.headers.get('x-upyun-list-type') === 'multi')
            return 'ListUploads';
        if (has('x-upyun-multi-uuid'))
            return 'ListParts';
        return r.isDir ? 'ListDir' : 'GetFile';
    default:
        return { HEAD: 'HeadFile', POST: 'MakeDir', DELETE: 'Delete', PATCH: 'PatchMetadata' }[r.method] ?? 'Unknown';
    }
}

function understand(r) {
    const [, bucketName, ...rest] = decoded(r.rawPath).split('/');
    const key = rest.join('/');
    // The service would clean such a path and answer for another.
    if (key.startsWith('/') || key.includes('//') || key.split('/').some(c => c === '.' || c === '..'))
        throw new UpyunError(400, 40001000, 'wrong uri');
    const tree = services.get(bucketName);
    const folder = r.headers.get('x-upyun-folder');
    r.slash = key === '' || key.endsWith('/');
    r.byteKey = toBytes(key.replace(/\/$/, ''));
    r.isDir = r.slash || folder === 'true' || (folder !== 'false' && tree?.get(r.byteKey)?.folder === true);
    Object.assign(r, { bucketName, key, tree });
    r.op = operation(r);
    r.logged = r.op === 'UploadPart' && { part: Number(r.headers.get('x-upyun-part-id')), upload: r.headers.get('x-upyun-multi-uuid') };
}

function admit(r) {
    if (!r.tree)
        throw new UpyunError(401, 40100012, 'bucket not exist');
    authenticate(r, operators, Math.floor(now() / 1000));
    if (!(r.op in operations))
        throw new UpyunError(400, r.op === 'WrongStage' ? 40001022 : 40001000, r.op === 'WrongStage' ? 'wrong x-upyun-multi-stage' : 'wrong uri');
    if (['PUT', 'POST', 'PATCH'].includes(r.method) && !r.headers.has('content-length'))
        throw new UpyunError(400, 40000011, 'chunked request bodies not supported yet');
    if ([...r.headers.keys()].some(n => n.startsWith('x-gmkerl-')))
        throw new UpyunError(400, 40011001, 'this server does no image processing');
}

// ---- files

const notFound = () => new UpyunError(404, 40400001, 'file or directory not found');

function metaOf(headers) {
    const meta = {};
    let bytes = 0;
    for (const [name, value] of headers)
        if (name.startsWith(META)) {
            meta[name.slice(META.length)] = value;
            bytes += name.length - META.length + Buffer.byteLength(value);
        }
    // A client that lets a name of the user's become one of these loses the user's file.
    if (bytes > opt.max_meta || 'ttl' in meta || 'secret' in meta)
        throw new UpyunError(400, 40001003, 'wrong metadata');
    return meta;
}

function mayWrite(r) {
    if (r.slash)
        throw new UpyunError(406, 40600001, 'dir not acceptable');
    if (/[\r\n\t]/.test(r.byteKey))
        throw new UpyunError(403, 40300001, 'file name contains invalid chars (\\r\\n\\t)');
    if (r.byteKey.length > opt.max_key)
        throw new UpyunError(403, 40300002, 'file path too long');
    r.tree.check(r.byteKey);
}

function fileOf(tree, byteKey) {
    const node = tree.get(byteKey);
    if (!node || node.folder)
        throw notFound();
    return node;
}

function checkMd5(r) {
    const md5 = r.headers.get('content-md5');
    if (md5 !== undefined && md5 !== r.body.md5)
        throw new UpyunError(400, 40000006, 'content md5 not match');
}

function describe(node) {
    const h = { 'x-upyun-file-type': node.folder ? 'folder' : 'file', 'x-upyun-file-date': String(Math.floor(node.modified / 1000)),
        'Last-Modified': new Date(node.modified).toUTCString() };
    if (node.folder)
        return h;
    h['x-upyun-file-size'] = String(node.body.size);
    h['Content-Type'] = node.type;
    h.ETag = `"${node.etag}"`;
    if (node.plain)
        h['Content-Md5'] = node.etag;
    for (const [name, value] of Object.entries(node.meta))
        h[META + name] = Buffer.from(value, 'utf8').toString('latin1');
    return h;
}

const json = (value, headers = {}, status = 200) => ({ status, headers: { 'Content-Type': 'application/json', ...headers }, body: Buffer.from(JSON.stringify(value)) });

function sourceOf(r, header) {
    const text = r.headers.get(header);
    const [, service, ...rest] = decoded(text).split('/');
    if (!text.startsWith('/') || /[^\x21-\x7e]/.test(text) || service !== r.bucketName)
        throw new UpyunError(400, 40001000, `wrong ${header}`);
    const byteKey = toBytes(rest.join('/'));
    return { byteKey, node: fileOf(r.tree, byteKey) };
}

function changed(old, directive, given) {
    switch (directive) {
    case 'copy': return old;
    case 'merge': return { ...old, ...given };
    case 'replace': return given;
    case 'delete': return Object.fromEntries(Object.entries(old).filter(([n]) => !(n in given)));
    default: throw new UpyunError(400, 40001000, 'wrong metadata directive');
    }
}

function copy(r, header) {
    mayWrite(r);
    const from = sourceOf(r, header);
    const meta = changed(from.node.meta, r.headers.get('x-upyun-metadata-directive') ?? 'copy', metaOf(r.headers));
    const { type, etag, plain, body } = from.node;
    r.tree.put(r.byteKey, { type, etag, plain, meta, body: body.slice(0, body.size), modified: now() });
    return from;
}

// ---- multipart

function uploadOf(r) {
    const upload = r.tree.uploads.get(r.headers.get('x-upyun-multi-uuid'));
    if (!upload)
        throw new UpyunError(400, 40001035, 'multi uuid not found');
    if (upload.byteKey !== r.byteKey)
        throw new UpyunError(400, 40001023, 'wrong x-upyun-multi-uuid');
    return upload;
}

function number(r, name, fallback) {
    const text = r.headers.get(name);
    if (text === undefined && fallback !== undefined)
        return fallback;
    return /^\d+$/.test(text ?? '') ? Number(text) : NaN;
}

const nextPart = upload => {
    let n = 0;
    while (upload.parts.has(n))
        n++;
    return upload.length !== undefined && n * upload.partSize >= upload.length ? -1 : n;
};

// ---- operations

const operations = {
    Usage: r => ({ status: 200, headers: { 'Content-Type': 'text/plain' },
        body: Buffer.from(String([...r.tree.objects.values()].reduce((sum, n) => sum + n.body.size, 0))) }),

    ListDir(r) {
        if (!r.tree.get(r.byteKey)?.folder)
            throw notFound();
        const order = r.headers.get('x-list-order') ?? 'asc', limit = number(r, 'x-list-limit', 100), iter = r.headers.get('x-list-iter');
        if (!['asc', 'desc'].includes(order))
            throw new UpyunError(403, 40300014, 'order must be asc or desc');
        const after = iter === undefined ? undefined : Number(Buffer.from(iter, 'base64').toString().slice(1));
        if (Number.isNaN(after) || !(limit >= 1 && limit <= 4096))
            throw new UpyunError(400, 40001005, 'wrong x-list-iter or x-list-limit');
        const { page, next } = r.tree.list(r.byteKey, after, Math.min(limit, opt.page), order === 'desc');
        const more = next === undefined ? LIST_END : Buffer.from(`@${next}`).toString('base64');
        const headers = { 'x-upyun-list-iter': more };
        if (r.headers.get('accept') === 'application/json')
            return json({ files: page.map(({ name, node }) => ({ type: node.folder ? 'folder' : node.type, name: toText(name),
                length: node.folder ? 0 : node.body.size, last_modified: Math.floor(node.modified / 1000), ...(!node.folder && { etag: node.etag }) })),
            iter: more }, headers);
        return { status: 200, headers, body: Buffer.from(page.map(({ name, node }) =>
            [toText(name), node.folder ? 'F' : 'N', node.folder ? 0 : node.body.size, Math.floor(node.modified / 1000)].join('\t')).join('\n')) };
    },

    HeadFile(r) {
        const node = r.tree.get(r.byteKey);
        if (!node || (r.slash && !node.folder))
            throw notFound();
        return { status: 200, headers: describe(node), body: node.folder ? undefined : node.body.slice(0, node.body.size) };
    },

    GetFile(r) {
        if (r.tree.get(r.byteKey)?.folder)
            throw new UpyunError(403, 40300015, 'path is not a file, maybe a directory');
        const node = fileOf(r.tree, r.byteKey), size = node.body.size, headers = describe(node);
        const text = r.headers.get('range'), m = /^bytes=(\d+)-(\d*)$/.exec(text ?? '');
        if (!m)
            return { status: 200, headers, body: node.body.slice(0, size) };
        const from = Number(m[1]), to = m[2] === '' ? size : Math.min(size, Number(m[2]) + 1);
        if (from >= size)
            throw new UpyunError(400, 40001161, 'wrong range');
        headers['Content-Range'] = `bytes ${from}-${to - 1}/${size}`;
        return { status: 206, headers, body: node.body.slice(from, to) };
    },

    PutFile(r) {
        mayWrite(r);
        const meta = metaOf(r.headers);
        if (r.body.size > opt.max_put)
            throw new UpyunError(403, 40300009, 'file too large');
        checkMd5(r);
        r.tree.put(r.byteKey, { type: r.headers.get('content-type') ?? 'application/octet-stream', meta, body: r.takeBody(), etag: r.body.md5,
            plain: true, modified: now() });
        return { status: 200, headers: { ETag: `"${r.body.md5}"` } };
    },

    MakeDir(r) {
        if (r.headers.get('folder') !== 'true' || r.body.size)
            throw new UpyunError(400, 40001000, 'wrong uri');
        if (r.byteKey.length > opt.max_key)
            throw new UpyunError(403, 40300002, 'file path too long');
        r.tree.makeFolder(r.byteKey, now());
        return { status: 200 };
    },

    Delete(r) {
        const node = r.tree.get(r.byteKey), folder = r.headers.get('x-upyun-folder');
        if (node && folder !== undefined && (folder === 'true') !== node.folder)
            throw notFound();
        r.tree.remove(r.byteKey);
        return { status: 200 };
    },

    CopyFile(r) {
        copy(r, 'x-upyun-copy-source');
        return { status: 200 };
    },

    MoveFile(r) {
        const from = copy(r, 'x-upyun-move-source');
        if (from.byteKey !== r.byteKey)
            r.tree.remove(from.byteKey);
        return { status: 200 };
    },

    PatchMetadata(r) {
        const m = /^metadata=(\w+)$/.exec(r.rawQuery), node = fileOf(r.tree, r.byteKey);
        node.meta = changed(node.meta, m?.[1] === 'copy' ? '' : m?.[1], metaOf(r.headers));
        return { status: 200 };
    },

    InitMultipart(r) {
        mayWrite(r);
        const type = r.headers.get('x-upyun-multi-type'), partSize = number(r, 'x-upyun-multi-part-size', MIB);
        const ordered = r.headers.get('x-upyun-multi-disorder') !== 'true';
        const length = r.headers.has('x-upyun-multi-length') ? number(r, 'x-upyun-multi-length') : undefined;
        if (type === undefined)
            throw new UpyunError(400, 40001024, 'wrong x-upyun-multi-type');
        if (Number.isNaN(length) || (ordered && length === undefined))
            throw new UpyunError(400, 40001025, 'wrong x-upyun-multi-length');
        if (!(partSize >= MIB && partSize <= opt.max_part && partSize % MIB === 0))
            throw new UpyunError(400, 40001027, 'wrong x-upyun-multi-part-size');
        const id = crypto.randomUUID();
        r.tree.uploads.set(id, { byteKey: r.byteKey, type, partSize, ordered, length, meta: metaOf(r.headers), parts: new Map(), initiated: now() });
        return { status: 204, headers: { 'X-Upyun-Multi-Uuid': id, 'X-Upyun-Next-Part-Id': '0', 'X-Upyun-Next-Part-Size': String(partSize) } };
    },

    UploadPart(r) {
        const upload = uploadOf(r), id = number(r, 'x-upyun-part-id');
        if (!(id < opt.max_parts) || (upload.ordered && id !== nextPart(upload)))
            throw new UpyunError(400, 40001030, 'wrong x-upyun-part-id');
        if (upload.parts.has(id))
            throw new UpyunError(400, 40001031, 'part already exists');
        if (r.body.size > upload.partSize || r.body.size === 0)
            throw new UpyunError(400, 40001032, 'part too large, or empty');
        checkMd5(r);
        upload.parts.set(id, { body: r.takeBody(), etag: r.body.md5 });
        return { status: 204, headers: { 'X-Upyun-Multi-Uuid': r.headers.get('x-upyun-multi-uuid'), 'X-Upyun-Next-Part-Id': String(nextPart(upload)) } };
    },

    async CompleteMultipart(r) {
        const id = r.headers.get('x-upyun-multi-uuid'), upload = uploadOf(r);
        mayWrite(r);
        const parts = [...upload.parts].sort((a, b) => a[0] - b[0]);
        const size = parts.reduce((sum, [, p]) => sum + p.body.size, 0);
        if (!parts.length || parts.some(([n, p], i) => n !== i || (i + 1 < parts.length && p.body.size !== upload.partSize)))
            throw new UpyunError(400, 40001030, 'parts are missing, or of a wrong size');
        if (upload.length !== undefined && upload.length !== size)
            throw new UpyunError(400, 40001025, 'wrong x-upyun-multi-length');
        const body = Body.concat(parts.map(([, p]) => p.body)), wanted = r.headers.get('x-upyun-multi-md5');
        if (wanted !== undefined && (await body.digest()).md5 !== wanted) {
            body.drop();
            throw new UpyunError(400, 40000006, 'content md5 not match');
        }
        // Opaque: nobody may take it for a digest of anything, though it looks like one.
        const fresh = r.tree.put(r.byteKey, { type: upload.type, meta: upload.meta, body, etag: crypto.randomBytes(16).toString('hex'), plain: false, modified: now() });
        r.tree.dropUpload(id);
        return { status: fresh ? 201 : 204, headers: { 'X-Upyun-Multi-Uuid': id, 'X-Upyun-Multi-Type': upload.type, 'X-Upyun-Multi-Length': String(size) } };
    },

    CancelMultipart(r) {
        if (opt.no_cancel)
            throw new UpyunError(400, 40001022, 'wrong x-upyun-multi-stage');
        uploadOf(r);
        r.tree.dropUpload(r.headers.get('x-upyun-multi-uuid'));
        return { status: 204 };
    },

    ListParts(r) {
        const upload = uploadOf(r), from = number(r, 'x-upyun-part-id', 0);
        return json({ parts: [...upload.parts].filter(([id]) => id >= from).sort((a, b) => a[0] - b[0]).slice(0, opt.parts_page)
            .map(([id, p]) => ({ etag: p.etag, size: p.body.size, id })) });
    },

    ListUploads(r) {
        const prefix = Buffer.from(r.headers.get('x-upyun-list-prefix') ?? '', 'base64').toString();
        const limit = number(r, 'x-upyun-list-limit', 1000);
        return json({ files: [...r.tree.uploads].map(([uuid, u]) => ({ key: '/' + toText(u.byteKey), uuid, completed: false,
            created_at: Math.floor(u.initiated / 1000) })).filter(f => f.key.startsWith(prefix)).slice(0, limit) });
    },
};

// ---- one request

function refusal(r, err, requestId) {
    if (!(err instanceof UpyunError)) {
        console.error(err);
        err = new UpyunError(503, 50300029, err.message);
    }
    return { ...json({ msg: err.message, code: err.code, id: requestId }, err.headers, err.status), code: err.code };
}

const server = requestServer({
    log, faults, understand, admit, run: r => operations[r.op](r), refusal,
    injected: rule => new UpyunError(rule.status ?? 503, rule.code ?? 50300000, rule.message ?? 'Injected.', rule.headers ?? {}),
    head: (r, entry) => ({ 'Server': 'marco/2.0', 'Date': new Date(now()).toUTCString(), 'X-Request-Id': entry.request_id }),
    keepsBody: r => ['PutFile', 'UploadPart'].includes(r.op),
});

// ---- control

const control = controlServer(faults, {
    ...storeRoutes({
        buckets: services, credentials: operators, clock, opt,
        facts: (key, n) => ({ key: toText(key), size: n.body.size, etag: n.etag, md5: n.md5, type: n.type, meta: n.meta, modified: n.modified }),
        uploadFacts: u => ({ part_size: u.partSize, meta: u.meta }),
        makeObject(bytes, query, headers) {
            const body = Body.of(bytes);
            return [{ type: headers.get('content-type') || 'application/octet-stream', meta: metaOf(headers), body, etag: body.md5, plain: true,
                modified: now() }, { etag: body.md5, size: bytes.length }];
        },
        makeBucket(name) {
            services.set(name, new Tree(name));
            return services.get(name);
        },
    }),
    'GET /_ctl/folders': rest => services.get(rest) && [...services.get(rest).nodes].filter(([k, n]) => n.folder && k !== '').map(([k]) => toText(k)).sort(),
});

const port = await listen(server, opt.port);
const controlPort = await listen(control, opt.control);
const [operator, { password }] = [...operators][0];
announce(opt.ready, {
    UPYUN_PORT: port, UPYUN_CONTROL: controlPort, UPYUN_ENDPOINT: `http://127.0.0.1:${port}`, UPYUN_BUCKET: opt.bucket[0],
    UPYUN_OPERATOR: operator, UPYUN_PASSWORD: password, UPYUN_LOG: opt.log, UPYUN_PID: process.pid,
});
