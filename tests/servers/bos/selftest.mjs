// Proves the BOS server with the official SDK as a client: a server written beside our own client could share its mistakes.
// Prints TAP. The server must run: BOS_… come from `service bos start`.
import crypto from 'node:crypto';
import fs from 'node:fs';
import { require } from '../common.mjs';
import { CRC32C } from '../crc32c.mjs';
import { test, same, control as controlOf, raw as rawOf, finish } from '../tap.mjs';
import { Auth, authenticate } from './auth.mjs';

const { BOS_PORT, BOS_CONTROL, BOS_BUCKET, BOS_SECRET_ID, BOS_SECRET_KEY, BOS_LOG } = process.env;
const { BosClient } = require('@baiducloud/sdk');
const control = controlOf(BOS_CONTROL), raw = rawOf(BOS_PORT);
const client = (extra = {}) => new BosClient({ endpoint: `http://127.0.0.1:${BOS_PORT}`, credentials: { ak: BOS_SECRET_ID, sk: BOS_SECRET_KEY }, ...extra });
const bos = client();
const md5 = (text, form = 'hex') => crypto.createHash('md5').update(text).digest(form);
const etagOf = answer => answer.http_headers.etag;

async function refused(promise, status, code, what) {
    const err = await Promise.resolve(promise).then(() => null, e => e);
    same([err?.status_code, err?.code || undefined], [status, code], what);
}

await test('SDK: put, head, get, range, delete, also of odd keys', async () => {
    for (const key of ['plain', 'a b+c%25&d=e?f#g', '中文/한국어 🎈', "it's(1)!*~", 'a@b;c']) {
        const put = await bos.putObject(BOS_BUCKET, key, Buffer.from(`content of ${key}`), { 'x-bce-meta-a-b': 'x', 'x-bce-meta-a': 'y', 'Cache-Control': 'no-cache',
            'Content-MD5': md5(`content of ${key}`, 'base64') });
        same(etagOf(put), md5(`content of ${key}`), key);
        const head = (await bos.getObjectMetadata(BOS_BUCKET, key)).http_headers;
        same([head['x-bce-meta-a-b'], head['x-bce-meta-a'], head['cache-control'], head['content-length']],
            ['x', 'y', 'no-cache', String(Buffer.byteLength(`content of ${key}`))]);
        same((await bos.getObject(BOS_BUCKET, key)).body.toString(), `content of ${key}`);
        same((await bos.getObject(BOS_BUCKET, key, '1-3')).body.toString(), 'ont');
        same((await bos.deleteObject(BOS_BUCKET, key)).http_headers['x-bce-request-id'].length > 0, true);
        await refused(bos.getObject(BOS_BUCKET, key), 404, 'NoSuchKey');
        await refused(bos.deleteObject(BOS_BUCKET, key), 404, 'NoSuchKey');
    }
    await refused(bos.putObject(BOS_BUCKET, 'x', 'x', { 'Content-MD5': md5('y', 'base64') }), 400, 'BadDigest');
    await refused(bos.listObjects('no-such-bucket'), 404, 'NoSuchBucket');
});

await test('SDK: lists in pages, with delimiter', async () => {
    for (const key of ['l/1', 'l/2/x', 'l/2/y', 'l/3', 'l/한'])
        await bos.putObjectFromString(BOS_BUCKET, key, key);
    const page = (await bos.listObjects(BOS_BUCKET, { prefix: 'l/', delimiter: '/', maxKeys: 2 })).body;
    same([page.isTruncated, page.contents.map(o => o.key), page.commonPrefixes.map(p => p.prefix), page.nextMarker], [true, ['l/1'], ['l/2/'], 'l/2/']);
    const rest = (await bos.listObjects(BOS_BUCKET, { prefix: 'l/', delimiter: '/', marker: page.nextMarker })).body;
    same([rest.isTruncated, rest.contents.map(o => [o.key, o.eTag, o.size]), rest.commonPrefixes], [false, [['l/3', md5('l/3'), 3], ['l/한', md5('l/한'), 5]], []]);
});

await test('SDK: copy, with and without new metadata, and under a condition', async () => {
    await bos.putObjectFromString(BOS_BUCKET, 'from a+b', 'copied', { 'x-bce-meta-old': '1' });
    same((await bos.copyObject(BOS_BUCKET, 'from a+b', BOS_BUCKET, 'to')).body.eTag, md5('copied'));
    same((await bos.getObjectMetadata(BOS_BUCKET, 'to')).http_headers['x-bce-meta-old'], '1');
    await bos.copyObject(BOS_BUCKET, 'from a+b', BOS_BUCKET, 'to', { 'x-bce-meta-new': '2', 'ETag': md5('copied') });
    const head = (await bos.getObjectMetadata(BOS_BUCKET, 'to')).http_headers;
    same([head['x-bce-meta-old'], head['x-bce-meta-new']], [undefined, '2']);
    await refused(bos.copyObject(BOS_BUCKET, 'from a+b', BOS_BUCKET, 'to', { ETag: md5('other') }), 412, 'PreconditionFailed');
});

await test('SDK: removes many', async () => {
    const keys = ['many/a&b', 'many/<c>"', 'many/中'];
    for (const key of keys)
        await bos.putObjectFromString(BOS_BUCKET, key, 'x');
    await bos.deleteMultipleObjects(BOS_BUCKET, [...keys, 'many/never']);
    same((await bos.listObjects(BOS_BUCKET, { prefix: 'many/' })).body.contents, []);
});

await test('SDK: parts, listed, copied, completed; every kind of wrong list', async () => {
    const key = 'mp/a b', data = crypto.randomBytes(5 << 20), whole = Buffer.concat([data, data, Buffer.from('tail')]);
    await bos.putObject(BOS_BUCKET, 'mp/source', data);
    const { uploadId } = (await bos.initiateMultipartUpload(BOS_BUCKET, key, { 'x-bce-meta-m': 'v' })).body;
    const part = (n, body, more = {}) => bos.sendRequest('PUT', { bucketName: BOS_BUCKET, key, body, params: { partNumber: n, uploadId }, headers: more });
    const first = etagOf(await part(1, data));
    const copied = (await bos.uploadPartCopy(BOS_BUCKET, 'mp/source', BOS_BUCKET, key, uploadId, 2, `0-${data.length - 1}`)).body.eTag;
    const last = etagOf(await part(4, 'tail'));
    await refused(part(5, 'x', { 'Content-MD5': md5('y', 'base64') }), 400, 'BadDigest');
    await refused(part(10001, 'x'), 400, 'InvalidArgument');
    const listed = (await bos.listParts(BOS_BUCKET, key, uploadId, { maxParts: 2 })).body;
    same([listed.isTruncated, listed.nextPartNumberMarker, listed.parts.map(p => [p.partNumber, p.size, p.eTag])],
        [true, 2, [[1, data.length, md5(data)], [2, data.length, md5(data)]]]);
    same((await bos.listMultipartUploads(BOS_BUCKET, { prefix: 'mp/' })).body.uploads.map(u => [u.key, u.uploadId]), [[key, uploadId]]);
    const complete = list => bos.completeMultipartUpload(BOS_BUCKET, key, uploadId, list.map(([partNumber, eTag]) => ({ partNumber, eTag })));
    await refused(complete([[2, copied], [1, first]]), 400, 'InvalidPartOrder');
    await refused(complete([[1, last]]), 400, 'InvalidPart');
    await refused(complete([[4, last], [5, first]]), 400, 'InvalidPart');
    await refused(complete([]), 400, 'MalformedJSON');
    await part(3, 'small');
    await refused(complete([[1, first], [3, md5('small')], [4, last]]), 400, 'EntityTooSmall');
    const made = (await complete([[1, first], [2, copied], [4, last]])).body;
    const crc = new CRC32C();
    crc.update(whole);
    const head = (await bos.getObjectMetadata(BOS_BUCKET, key)).http_headers;
    same([head.etag, /^-[0-9a-f]{32}$/.test(head.etag), head['content-length'], head['x-bce-meta-m'], head['x-bce-content-crc32c']],
        [made.eTag, true, String(whole.length), 'v', String(crc.valueOf() >>> 0)]);
    await refused(complete([[1, first]]), 404, 'NoSuchUpload');
    const second = (await bos.initiateMultipartUpload(BOS_BUCKET, key)).body.uploadId;
    await bos.abortMultipartUpload(BOS_BUCKET, key, second);
    await refused(bos.listParts(BOS_BUCKET, key, second), 404, 'NoSuchUpload');
});

await test('limits, archived objects, no overwriting', async () => {
    await refused(bos.putObjectFromString(BOS_BUCKET, 'k'.repeat(1024), 'x'), 400, 'KeyTooLong');
    await bos.putObjectFromString(BOS_BUCKET, 'k'.repeat(1023), 'x');
    await bos.putObjectFromString(BOS_BUCKET, 'frozen', 'ice', { 'x-bce-storage-class': 'ARCHIVE' });
    await refused(bos.getObject(BOS_BUCKET, 'frozen'), 403, 'InvalidObjectState');
    same((await bos.getObjectMetadata(BOS_BUCKET, 'frozen')).http_headers['x-bce-storage-class'], 'ARCHIVE');
    const thaw = () => bos.restoreObject(BOS_BUCKET, 'frozen', { 'x-bce-restore-days': 2, 'x-bce-restore-tier': 'Standard' });
    await control('POST', 'set', { restore_ms: 3600000 });
    await thaw();
    await refused(thaw(), 409, 'RestoreAlreadyInProgress');
    await refused(bos.restoreObject(BOS_BUCKET, 'k'.repeat(1023), { 'x-bce-restore-days': 2 }), 403, 'InvalidObjectState');
    await refused(bos.putObjectFromString(BOS_BUCKET, 'frozen', 'y', { 'x-bce-forbid-overwrite': 'true' }), 412, 'PreconditionFailed');
    // What the SDK itself would refuse to send.
    const sign = (method, path, headers) => new Auth(BOS_SECRET_ID, BOS_SECRET_KEY).generateAuthorization(method, path, {}, headers, Date.now() / 1000);
    const put = (key, more) => {
        const headers = { 'host': `127.0.0.1:${BOS_PORT}`, 'content-length': '1', 'x-bce-date': new Date().toISOString().replace(/\.\d+/, ''), ...more };
        return raw('PUT', `/${BOS_BUCKET}/${key}`, { headers: { ...headers, authorization: sign('PUT', `/${BOS_BUCKET}/${key}`, headers) }, body: 'x' }).then(a => JSON.parse(a.text || '{}').code ?? a.status);
    };
    same(await put('meta', { 'x-bce-meta-a': 'v'.repeat(2048 - 12) }), 200);
    same(await put('meta', { 'x-bce-meta-a': 'v'.repeat(2049 - 12) }), 'MetadataTooLarge');
    same([await put('/lead', {}), await put('a//b', {})], ['InvalidObjectName', 200]);
});

await test('signatures: recorded requests are accepted, and refused with one digit changed', async () => {
    const vectors = JSON.parse(fs.readFileSync(new URL('../../vectors/bos.json', import.meta.url)));
    const { access_key_id, secret_access_key, session_token } = vectors.credentials;
    let n = 0;
    for (const c of vectors.cases.filter(c => c.expected.authorization && c.name !== 'list_buckets')) {
        const headers = Object.entries({ host: c.host, ...c.headers }).map(([k, v]) => [k.toLowerCase(), v]);
        const token = c.headers['x-bce-security-token'];
        const known = new Map([[access_key_id, { secret: secret_access_key, token: token && session_token }]]);
        const judge = authorization => {
            try {
                authenticate({ method: c.method, path: decodeURIComponent(c.path), query: new Map(Object.entries(c.query)),
                    headers: new Map([...headers, ['authorization', authorization]]) }, known, c.time);
                return 'accepted';
            } catch (err) {
                return err.code ?? err;
            }
        };
        const good = c.expected.authorization;
        same(judge(good), 'accepted', c.name);
        same(judge(good.slice(0, -1) + (good.endsWith('0') ? '1' : '0')), 'SignatureDoesNotMatch', c.name);
        n++;
    }
    same(n >= 24, true, `${n} cases`);
});

await test('signatures: every kind of wrong one; temporary keys need their token; clocks', async () => {
    await refused(client({ credentials: { ak: 'nobody', sk: BOS_SECRET_KEY } }).listObjects(BOS_BUCKET), 403, 'InvalidAccessKeyId');
    await refused(client({ credentials: { ak: BOS_SECRET_ID, sk: 'wrong' } }).listObjects(BOS_BUCKET), 403, 'SignatureDoesNotMatch');
    const temporary = sessionToken => client({ credentials: { ak: 'temporaryId', sk: 'temporarySecret' }, sessionToken }).listObjects(BOS_BUCKET);
    same((await temporary('the/token+1==')).body.name, BOS_BUCKET);
    await refused(temporary('wrong'), 403, 'InvalidSessionToken');
    await refused(temporary(undefined), 403, 'InvalidSessionToken');
    same(JSON.parse((await raw('GET', `/${BOS_BUCKET}/`)).text).code, 'AccessDenied', 'anonymous');
    await control('POST', 'clock', { offset_s: 7200 });
    const headers = { 'host': `127.0.0.1:${BOS_PORT}`, 'x-bce-date': new Date().toISOString().replace(/\.\d+/, '') };
    const authorization = new Auth(BOS_SECRET_ID, BOS_SECRET_KEY).generateAuthorization('GET', `/${BOS_BUCKET}/`, {}, headers, Date.now() / 1000);
    const late = await raw('GET', `/${BOS_BUCKET}/`, { headers: { ...headers, authorization } });
    await control('POST', 'clock', { offset_s: 0 });
    same([late.status, JSON.parse(late.text).code], [403, 'RequestTimeTooSkewed']);
});

await test('faults: refusal, lost reply, error in a 200, truncation', async () => {
    await control('POST', 'fault', { op: 'PutObject', action: 'status', status: 503, code: 'SlowDown' });
    await refused(bos.putObjectFromString(BOS_BUCKET, 'f', 'x'), 503, 'SlowDown');
    await control('POST', 'fault', { op: 'PutObject', action: 'lost' });
    same([await bos.putObjectFromString(BOS_BUCKET, 'f', 'x').then(() => 'answered', e => e.code), (await bos.getObject(BOS_BUCKET, 'f')).body.toString()], ['ECONNRESET', 'x']);
    await control('POST', 'fault', { op: 'CopyObject', action: 'error200', code: 'InternalError' });
    same((await bos.copyObject(BOS_BUCKET, 'f', BOS_BUCKET, 'g')).body.code, 'InternalError');
    await refused(bos.getObject(BOS_BUCKET, 'g'), 404, 'NoSuchKey');
    await control('DELETE', 'faults');
});

await test('log: one line a request, with what it carried', async () => {
    const lines = fs.readFileSync(BOS_LOG, 'utf8').trim().split('\n').map(JSON.parse);
    const one = lines.findLast(l => l.op === 'PutObject' && l.key === 'l/3');
    same([one.method, one.status, one.req_bytes, one.body], ['PUT', 200, 3, true]);
    same(lines.filter(l => l.op === 'CopyObject').every(l => !l.body), true);
});

finish();
