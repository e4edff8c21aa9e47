// Proves the GCS server with Google's own libraries as clients: a server written beside our own client could share its mistakes.
// Prints TAP. The server must run: GCS_… come from `service gcs start`.
import crypto from 'node:crypto';
import fs from 'node:fs';
import zlib from 'node:zlib';
import { require } from '../common.mjs';
import { CRC32C } from '../crc32c.mjs';
import { test, same, control as controlOf, raw as rawOf, finish } from '../tap.mjs';
import { AUDIENCE, JWTAccess, Storage, hmacSignature } from './auth.mjs';

const { GCS_PORT, GCS_CONTROL, GCS_BUCKET, GCS_SECRET_ID, GCS_SECRET_KEY, GCS_SERVICE_ACCOUNT, GCS_LOG } = process.env;
const control = controlOf(GCS_CONTROL), raw = rawOf(GCS_PORT);
const account = JSON.parse(fs.readFileSync(GCS_SERVICE_ACCOUNT));
const { TransferManager } = require('@google-cloud/storage');
const storage = new Storage({ projectId: 'test', credentials: account, apiEndpoint: 'https://storage.googleapis.com' });
const bucket = storage.bucket(GCS_BUCKET);
const bearer = () => new JWTAccess(account.client_email, account.private_key, account.private_key_id).getRequestHeaders(AUDIENCE).Authorization;
const etag = text => `"${crypto.createHash('md5').update(text).digest('hex')}"`;
const code = answer => /<Code>(\w+)<\/Code>/.exec(answer.text)?.[1];

// What the SDK sends to Google goes to the server here, with the Host that was meant.
async function redirected({ url, method = 'GET', headers = {}, body }) {
    const u = new URL(url);
    const answer = await raw(method, u.pathname + u.search, { host: u.host, headers: { ...headers, authorization: bearer() }, body });
    if (answer.status >= 300)
        throw Object.assign(new Error(answer.text), { status: answer.status });
    return { data: answer.text, headers: answer.headers, status: answer.status };
}

async function byUrl(action, key, { body, headers = {}, query } = {}) {
    const [url] = await bucket.file(key).getSignedUrl({ version: 'v4', action, expires: Date.now() + 60000, extensionHeaders: headers, queryParams: query });
    const u = new URL(url);
    return raw({ read: 'GET', write: 'PUT', delete: 'DELETE' }[action], u.pathname + u.search, { host: u.host, headers, body });
}

await test('SDK: V4 signed URLs put, get, range and delete, also of odd keys', async () => {
    for (const key of ['plain', 'a b+c%25&d=e?f#g', '中文/한국어 🎈', "it's(1)!*~", 'a//b']) {
        const put = await byUrl('write', key, { body: `content of ${key}`, headers: { 'x-goog-meta-a': 'b  c', 'content-type': 'text/x' } });
        same([put.status, put.headers.etag], [200, etag(`content of ${key}`)], key);
        const got = await byUrl('read', key);
        same([got.status, got.text, got.headers['x-goog-meta-a'], got.headers['content-type']], [200, `content of ${key}`, 'b  c', 'text/x']);
        same((await byUrl('read', key, { headers: { range: 'bytes=1-3' } })).text, 'ont');
        same([(await byUrl('delete', key)).status, code(await byUrl('read', key))], [204, 'NoSuchKey']);
    }
    same(code(await byUrl('write', 'a\nb', { body: 'x' })), 'InvalidObjectName');
});

await test('SDK: its bucket listing by URL', async () => {
    await byUrl('write', 'list/1', { body: '1' });
    await byUrl('write', 'list/2/x', { body: '2' });
    const [url] = await bucket.getSignedUrl({ version: 'v4', action: 'list', expires: Date.now() + 60000, queryParams: { prefix: 'list/', delimiter: '/' } });
    const u = new URL(url), { status, text } = await raw('GET', u.pathname + u.search, { host: u.host });
    same([status, (await raw('GET', u.pathname + '/' + u.search, { host: u.host })).status], [200, 403]);
    same([/<Key>list\/1<\/Key>/.test(text), /<Prefix>list\/2\/<\/Prefix>/.test(text), /<Key>list\/2/.test(text)], [true, true, false]);
});

await test('SDK: TransferManager uploads in parts; the result has a CRC32C and no MD5', async () => {
    const file = `${GCS_SERVICE_ACCOUNT}.data`, data = crypto.randomBytes(11 << 20);
    fs.writeFileSync(file, data);
    storage.authClient.request = redirected;
    for (const validation of ['md5', 'crc32c', false])
        await new TransferManager(bucket).uploadFileInChunks(file, { chunkSizeBytes: 5 << 20, uploadName: 'mp/a b.bin', validation,
            headers: { 'x-goog-meta-of': 'parts' } });
    fs.unlinkSync(file);
    const head = (await redirected({ url: `https://storage.googleapis.com/${GCS_BUCKET}/mp/a%20b.bin`, method: 'HEAD' })).headers;
    const crc = new CRC32C();
    crc.update(data);
    same([head['x-goog-hash'], head['content-length'], head['x-goog-meta-of']], [`crc32c=${crc}`, String(data.length), 'parts']);
    same(await control('GET', 'uploads'), []);
});

await test('SDK: a part that was damaged on the way is refused', async () => {
    const at = path => `https://storage.googleapis.com/${GCS_BUCKET}/${path}`;
    const begun = await redirected({ url: at('mp/bad?uploads'), method: 'POST' });
    const id = /<UploadId>(.*)<\/UploadId>/.exec(begun.data)[1];
    const error = await redirected({ url: at(`mp/bad?partNumber=1&uploadId=${id}`), method: 'PUT', body: 'x', headers: { 'x-goog-hash': 'crc32c=AAAAAA==' } }).catch(e => e);
    same(/BadDigest/.test(error.message), true);
    same((await redirected({ url: at(`mp/bad?uploadId=${id}`), method: 'DELETE' })).status, 204);
    same(/NoSuchUpload/.test((await redirected({ url: at(`mp/bad?uploadId=${id}`) }).catch(e => e)).message), true);
});

await test('tokens: every kind of wrong one is refused', async () => {
    const get = authorization => raw('GET', `/${GCS_BUCKET}/`, { headers: authorization ? { authorization } : {} }).then(a => [a.status, code(a)]);
    const other = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' });
    const made = (email, key, kid, aud, scope) => new JWTAccess(email, key, kid).getRequestHeaders(aud, undefined, scope).Authorization;
    const no = [401, 'AuthenticationRequired'];
    const scope = 'https://www.googleapis.com/auth/devstorage.read_write';
    same(await get(bearer()), [200, undefined]);
    same(await get(made(account.client_email, account.private_key, account.private_key_id, undefined, scope)), [200, undefined]);
    same(await get(), no);
    same(await get('Bearer x'), no);
    same(await get(made(account.client_email, other, account.private_key_id, AUDIENCE)), no, 'another key');
    same(await get(made('a@b', account.private_key, account.private_key_id, AUDIENCE)), no, 'another account');
    same(await get(made(account.client_email, account.private_key, 'kid', AUDIENCE)), no, 'another key id');
    same(await get(made(account.client_email, account.private_key, account.private_key_id, 'https://pubsub.googleapis.com/')), no, 'another audience');
    await control('POST', 'clock', { offset_s: 7200 });
    const late = await get(bearer());
    await control('POST', 'clock', { offset_s: 0 });
    same(late, no, 'of another time');
});

await test('GOOG4-HMAC-SHA256: recorded requests, and every kind of wrong one', async () => {
    const vectors = JSON.parse(fs.readFileSync(new URL('../../vectors/gcs.json', import.meta.url)));
    let n = 0;
    for (const c of vectors.cases.filter(c => c.kind === 'header-goog4-hmac')) {
        const [, scope, names, signature] = /Credential=[^/]+\/([^,]+), SignedHeaders=([^,]+), Signature=(.*)$/.exec(c.expected.authorization);
        const inHost = c.host.startsWith(`${c.bucket}.`);
        const key = decodeURIComponent(inHost ? c.path.slice(1) : c.path.slice(c.bucket.length + 2));
        const r = { method: c.method, bucketName: c.bucket, key, inHost, rawPath: c.path, query: new Map(Object.entries(c.query)), headers: new Map(Object.entries(c.headers)) };
        const made = hmacSignature(r, vectors.credentials.hmac_access_id, vectors.credentials.hmac_secret, scope, c.headers['x-goog-date'], names);
        same(made, signature, c.name);
        n++;
    }
    same(n, 4);
    const date = new Date().toISOString().replace(/[-:]|\.\d+/g, ''), scope = `${date.slice(0, 8)}/auto/storage/goog4_request`;
    const sent = async (change = {}) => {
        const headers = new Map(Object.entries({ host: 'storage.googleapis.com', 'x-goog-content-sha256': 'UNSIGNED-PAYLOAD', 'x-goog-date': date, ...change.headers }));
        const names = change.names ?? [...headers.keys()].sort().join(';');
        const signature = hmacSignature({ method: 'GET', bucketName: GCS_BUCKET, key: change.key ?? 'list/1', rawPath: '', query: new Map(), headers }, GCS_SECRET_ID,
            change.secret ?? GCS_SECRET_KEY, scope, headers.get('x-goog-date'), names);
        const a = await raw('GET', `/${GCS_BUCKET}/list/1`, { host: 'storage.googleapis.com', headers: { ...Object.fromEntries([...headers].filter(([k]) => k !== 'host')), ...change.after,
            authorization: `GOOG4-HMAC-SHA256 Credential=${change.id ?? GCS_SECRET_ID}/${scope}, SignedHeaders=${names}, Signature=${signature}` } });
        return code(a) ?? a.status;
    };
    same(await sent(), 200);
    same(await sent({ id: 'nobody' }), 'InvalidSecurity');
    same(await sent({ secret: 'wrong' }), 'SignatureDoesNotMatch');
    same(await sent({ key: 'list/2' }), 'SignatureDoesNotMatch');
    same(await sent({ names: 'x-goog-content-sha256;x-goog-date' }), 'SignatureDoesNotMatch', 'host not signed');
    same(await sent({ after: { 'x-goog-user-project': 'p' } }), 'SignatureDoesNotMatch', 'a header of Google\'s own not signed');
    same(await sent({ headers: { 'x-goog-date': '20200101T000000Z' } }), 'RequestTimeTooSkewed');
    same(await sent({ headers: { 'accept-encoding': 'gzip' } }), 'SignatureDoesNotMatch', 'rewritten on the way');
});

await test('conditions, copies and what Google has of its own', async () => {
    const at = path => `https://storage.googleapis.com/${GCS_BUCKET}/${path}`;
    const put = (key, body, headers = {}) => redirected({ url: at(key), method: 'PUT', body, headers }).then(a => a.status, e => e.status);
    const none = { 'x-goog-if-generation-match': '0' };
    same([await put('once', 'x', none), await put('once', 'y', none), await put('once', 'y')], [200, 412, 200]);
    const copied = await redirected({ url: at('copied'), method: 'PUT', headers: { 'x-goog-copy-source': `${GCS_BUCKET}/once`, 'x-goog-metadata-directive': 'REPLACE', 'x-goog-meta-n': '2' } });
    same(copied.data.includes(`<ETag>${etag('y').replace(/"/g, '&quot;')}</ETag>`), true);
    const head = (await redirected({ url: at('copied'), method: 'HEAD' })).headers;
    same([head['x-goog-meta-n'], head['cache-control'], head.expires !== undefined], ['2', 'private, max-age=0', true]);
    await put('packed', zlib.gzipSync('unpacked'), { 'content-encoding': 'gzip' });
    same((await redirected({ url: at('packed') })).data, 'unpacked');
    same(Number((await redirected({ url: at('packed'), headers: { 'accept-encoding': 'gzip' } })).headers['content-length']), zlib.gzipSync('unpacked').length);
    same((await redirected({ url: at('?delete'), method: 'POST', body: '<Delete/>' }).catch(e => e)).status, 400, 'no deletion of many');
});

await test('log: one line a request, with what it carried', async () => {
    const lines = fs.readFileSync(GCS_LOG, 'utf8').trim().split('\n').map(JSON.parse);
    const one = lines.findLast(l => l.op === 'PutObject' && l.key === 'list/1');
    same([one.method, one.status, one.req_bytes, one.body], ['PUT', 200, 1, true]);
    same(lines.filter(l => l.op === 'CopyObject').every(l => !l.body), true);
});

finish();
