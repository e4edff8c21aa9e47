// Proves the OSS server with the official SDK as a client, in both signature versions. Prints TAP. OSS_PORT and the rest come from
// `service oss start`.
import crypto from 'node:crypto';
import dns from 'node:dns';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { test, same, crc, md5, control as controlOf, send, finish } from '../tap.mjs';
import { OSS, authenticate } from './auth.mjs';

const { OSS_PORT, OSS_CONTROL, OSS_BUCKET, OSS_REGION, OSS_SECRET_ID, OSS_SECRET_KEY, OSS_LOG } = process.env;
const control = controlOf(OSS_CONTROL);
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'oss-selftest-'));
process.on('exit', () => fs.rmSync(dir, { recursive: true, force: true }));
// The SDK asks for the provider's own names; whatever they are, this machine answers.
dns.lookup = (host, options, done) => (done ?? options)(null, ...((done ? options : {}).all ? [[{ address: '127.0.0.1', family: 4 }]] : ['127.0.0.1', 4]));

const client = (more = {}) => new OSS({ accessKeyId: OSS_SECRET_ID, accessKeySecret: OSS_SECRET_KEY, bucket: OSS_BUCKET, region: `oss-${OSS_REGION}`,
    endpoint: `http://oss-${more.host ?? OSS_REGION}.aliyuncs.com:${OSS_PORT}`, authorizationV4: true, ...more });
async function refused(promise, status, code) {
    const err = await promise.then(() => null, e => e);
    if (!err)
        throw new Error(`not refused with ${code}`);
    same([err.status, err.code], [status, code], err.message);
}

for (const [version, oss] of [['v4', client()], ['v1', client({ authorizationV4: false })]]) {
    const at = name => `${version}/${name}`;

    await test(`${version}: put, head, get with metadata and headers`, async () => {
        const body = Buffer.from('hello world'), name = at('dir/a b+c%25ü&=?#.txt');
        const made = await oss.put(name, body, { mime: 'text/x-test', meta: { mtime: '1700000000.5', name: 'a%20b' },
            headers: { 'Cache-Control': 'no-cache', 'Content-Disposition': 'attachment', 'Expires': 'Thu, 01 Jan 2032 00:00:00 GMT',
                'x-oss-storage-class': 'IA', 'x-oss-server-side-encryption': 'AES256' } });
        same([made.res.headers.etag, made.res.headers['x-oss-hash-crc64ecma']], [`"${md5(body).toUpperCase()}"`, '5981764153023615706']);
        const head = await oss.head(name);
        same([head.meta, head.res.headers['content-type'], head.res.headers['x-oss-storage-class'], head.res.headers['x-oss-object-type'],
            head.res.headers['x-oss-server-side-encryption'], head.res.headers['cache-control']],
        [{ mtime: '1700000000.5', name: 'a%20b' }, 'text/x-test', 'IA', 'Normal', 'AES256', 'no-cache']);
        same((await oss.get(name)).content.toString(), 'hello world');
        await refused(oss.get(at('absent')), 404, 'NoSuchKey');
        await refused(oss.head(at('absent')), 404, 'NoSuchKey');
    });

    await test(`${version}: ranges, strict and not; conditions`, async () => {
        const made = await oss.put(at('ranged'), Buffer.from('0123456789'));
        const get = (Range, more = {}) => oss.get(at('ranged'), { headers: { Range, ...more } });
        const part = await get('bytes=2-4');
        same([part.res.status, part.content.toString(), part.res.headers['content-range']], [206, '234', 'bytes 2-4/10']);
        same([(await get('bytes=10-20')).res.status, (await get('bytes=10-20')).content.length], [200, 10]);
        await refused(get('bytes=10-20', { 'x-oss-range-behavior': 'standard' }), 416, 'InvalidRange');
        await refused(get('bytes=0-1', { 'If-Match': '"0"' }), 412, 'PreconditionFailed');
        same((await get('bytes=0-1', { 'If-Match': made.res.headers.etag })).content.toString(), '01');
    });

    await test(`${version}: listing pages, delimiter, order of bytes, odd names`, async () => {
        const keys = ['l/', 'l/a+b', 'l/a b', 'l/%41', 'l//x', 'l/sub/1', 'l/sub/2', 'l/sub0', 'l/\u{10000}', 'l/é', 'l/\x01', 'l/<&>"'].map(at);
        for (const k of keys)
            await oss.put(k, Buffer.from('x'));
        const order = keys.slice().sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
        const found = [];
        let marker = '';
        do {
            // The SDK signs a parameter without a value in another way than it names in its own documents.
            const page = await oss.list({ prefix: at('l/'), 'max-keys': 5, 'encoding-type': 'url', ...(marker && { marker }) });
            same(page.objects.length <= 5, true);
            found.push(...page.objects.map(o => [decodeURIComponent(o.name), o.type]));
            marker = page.nextMarker && decodeURIComponent(page.nextMarker);
        } while (marker && found.length <= keys.length);
        same(found, order.map(k => [k, 'Normal']));
        const top = await oss.list({ prefix: at('l/'), delimiter: '/', 'max-keys': 1000 });
        same(top.prefixes, [at('l//'), at('l/sub/')]);
    });

    await test(`${version}: delete one, delete many, in both tones`, async () => {
        for (const k of ['d1', 'd&<2>', 'd3'])
            await oss.put(at(k), Buffer.from('1'));
        const gone = await oss.deleteMulti([at('d1'), at('d&<2>'), at('never')]);
        same(gone.deleted.map(d => d.Key), [at('d1'), at('d&<2>'), at('never')]);
        const quiet = await oss.deleteMulti([at('d3')], { quiet: true });
        same([quiet.res.status, quiet.res.size], [200, 0]);
        await refused(oss.head(at('d3')), 404, 'NoSuchKey');
        same((await oss.delete(at('d1'))).res.status, 204);
    });

    await test(`${version}: copy, metadata kept and replaced; not from another region`, async () => {
        await oss.put(at('src/ü 1'), Buffer.from('source'), { mime: 'text/x-src', meta: { a: '1' } });
        await oss.copy(at('copied'), at('src/ü 1'));
        same((await oss.head(at('copied'))).meta, { a: '1' });
        await oss.copy(at('copied'), at('src/ü 1'), { meta: { b: '2' }, headers: { 'Content-Type': 'text/x-new' } });
        same([(await oss.head(at('copied'))).meta, (await oss.head(at('copied'))).res.headers['content-type']], [{ b: '2' }, 'text/x-new']);
        await refused(oss.copy(at('copied'), at('src/ü 1'), { headers: { 'If-Match': '"0"', 'x-oss-copy-source-if-match': '"0"' } }), 412, 'PreconditionFailed');
        await refused(oss.copy(at('copied'), at('absent')), 404, 'NoSuchKey');
        await control('PUT', 'bucket/far-bucket@cn-far');
        const far = client({ bucket: 'far-bucket', region: 'oss-cn-far', host: 'cn-far', authorizationV4: version === 'v4' });
        await far.put('x', Buffer.from('x'));
        await refused(oss.copy(at('copied'), '/far-bucket/x'), 400, 'InvalidArgument');
        await refused(client({ bucket: 'far-bucket', authorizationV4: version === 'v4' }).get('x'), 403, 'AccessDenied');
        await control('DELETE', 'bucket/far-bucket');
    });

    await test(`${version}: multipartUpload and multipartUploadCopy of a few MiB`, async () => {
        const data = crypto.randomBytes(3 * 1048576 + 1);
        fs.writeFileSync(`${dir}/big`, data);
        const made = await oss.multipartUpload(at('big'), `${dir}/big`, { partSize: 1048576, meta: { m: 'v' } });
        same(/^"[0-9A-F]{32}-4"$/.test(made.etag), true, made.etag);
        same(made.res.headers['x-oss-hash-crc64ecma'], crc(data));
        await oss.multipartUploadCopy(at('big2'), { sourceKey: at('big'), sourceBucketName: OSS_BUCKET }, { partSize: 1048576 });
        const got = await oss.get(at('big2'));
        same([md5(got.content), got.res.headers['x-oss-object-type'], got.res.headers['x-oss-hash-crc64ecma']], [md5(data), 'Multipart', crc(data)]);
    });

    await test(`${version}: multipart by hand: list, pages, errors, abort`, async () => {
        const name = at('mp/k'), { uploadId } = await oss.initMultipartUpload(name, { meta: { m: 'v' } });
        const part = (n, body) => oss._uploadPart(name, uploadId, n, { stream: Readable.from([body]), size: body.length });
        const small = Buffer.alloc(102400, 7), tags = [];
        for (const n of [1, 2, 3])
            tags[n] = (await part(n, small)).etag;
        same((await oss.listUploads({ prefix: at('mp/'), 'max-uploads': 1000 })).uploads.map(u => [u.name, u.uploadId]), [[name, uploadId]]);
        const page = await oss.listParts(name, uploadId, { 'max-parts': 2 });
        same([page.parts.map(p => p.PartNumber), page.isTruncated, page.nextPartNumberMarker], [['1', '2'], 'true', '2']);
        await refused(oss.completeMultipartUpload(name, uploadId, [{ number: 1, etag: tags[1] }, { number: 9, etag: tags[1] }]), 400, 'InvalidPart');
        await part(4, Buffer.from('tiny'));
        const all = await oss.listParts(name, uploadId);
        await refused(oss.completeMultipartUpload(name, uploadId, [{ number: 4, etag: all.parts[3].ETag }, { number: 5, etag: tags[1] }]), 400, 'InvalidPart');
        await oss.completeMultipartUpload(name, uploadId, all.parts.map(p => ({ number: Number(p.PartNumber), etag: p.ETag })));
        same((await oss.head(name)).meta, { m: 'v' });
        const second = await oss.initMultipartUpload(name);
        same((await oss.abortMultipartUpload(name, second.uploadId)).res.status, 204);
        await refused(oss.listParts(name, second.uploadId), 404, 'NoSuchUpload');
    });

    await test(`${version}: no overwriting; limits`, async () => {
        const once = { headers: { 'x-oss-forbid-overwrite': 'true' } };
        await oss.put(at('once'), Buffer.from('1'), once);
        await refused(oss.put(at('once'), Buffer.from('2'), once), 409, 'FileAlreadyExists');
        await refused(oss.put('k'.repeat(1024), Buffer.from('x')), 400, 'KeyTooLong');
        await refused(oss.put(at('a\nb'), Buffer.from('x')), 400, 'InvalidObjectName');
        await refused(oss.put(at('md5'), Buffer.from('x'), { headers: { 'Content-MD5': md5('y', 'base64') } }), 400, 'InvalidDigest');
        await refused(oss.put(at('meta'), Buffer.from('x'), { meta: { a_b: '1' } }), 400, 'InvalidArgument');
    });

    await test(`${version}: restore of an archived object`, async () => {
        await oss.put(at('frozen'), Buffer.from('ice'), { headers: { 'x-oss-storage-class': 'Archive' } });
        await refused(oss.get(at('frozen')), 403, 'InvalidObjectState');
        await control('POST', 'set', { restore_ms: 3600000 });
        same((await oss.restore(at('frozen'), { type: 'Archive' })).res.status, 202);
        await refused(oss.restore(at('frozen')), 409, 'RestoreAlreadyInProgress');
        await control('POST', 'set', { restore_ms: 0 });
        await oss.put(at('thawed'), Buffer.from('ice'), { headers: { 'x-oss-storage-class': 'Archive' } });
        same((await oss.restore(at('thawed'))).res.status, 202);
        same((await oss.get(at('thawed'))).content.toString(), 'ice');
    });

    await test(`${version}: wrong ids, secrets, tokens, regions, clocks`, async () => {
        const v4 = { authorizationV4: version === 'v4' };
        await refused(client({ accessKeyId: 'nobody', ...v4 }).get('x'), 403, 'InvalidAccessKeyId');
        await refused(client({ accessKeySecret: 'wrong', ...v4 }).get('x'), 403, 'SignatureDoesNotMatch');
        await refused(client({ bucket: 'absent-bucket', ...v4 }).get('x'), 404, 'NoSuchBucket');
        const temporary = stsToken => client({ accessKeyId: 'STS.temporary', accessKeySecret: 'temporarySecret', stsToken, refreshSTSToken: async () => ({}),
            refreshSTSTokenInterval: 1e9, ...v4 });
        same((await temporary('the-token').put(at('t'), Buffer.from('x'))).res.status, 200);
        await refused(temporary('wrong').get(at('t')), 403, 'InvalidSecurityToken');
        if (version === 'v4')
            await refused(client({ region: 'oss-cn-wrong' }).get('x'), 400, 'InvalidArgument');
        await control('POST', 'clock', { offset_s: 7200, code: 'AccessDenied' });
        await refused(client(v4).get(at('ranged')), 403, 'AccessDenied');
        await control('POST', 'clock', { offset_s: 7200, code: 'RequestTimeTooSkewed' });
        try {
            await refused(client(v4).get(at('ranged')), 403, 'RequestTimeTooSkewed');
            same((await client({ amendTimeSkewed: 7200000, ...v4 }).get(at('ranged'))).res.status, 200);
        } finally {
            await control('POST', 'clock', { offset_s: 0 });
        }
    });
}

await test('V1 can be closed', async () => {
    await control('POST', 'set', { v1_closed: true });
    await refused(client({ authorizationV4: false }).get('x'), 403, 'AccessDenied');
    await control('POST', 'set', { v1_closed: false });
});

await test('nothing goes without a signature, nor past one', async () => {
    const host = `${OSS_BUCKET}.oss-${OSS_REGION}.aliyuncs.com`;
    same((await send(OSS_PORT, 'GET', '/v4/ranged', { host })).code, 'AccessDenied');
    same((await send(OSS_PORT, 'GET', '/x', { host, authorization: 'OSS4-HMAC-SHA256 nonsense' })).code, 'InvalidArgument');
    same((await send(OSS_PORT, 'GET', `/${OSS_BUCKET}/x`, { host: `oss-${OSS_REGION}.aliyuncs.com` })).code, 'SecondLevelDomainForbidden');
});

await test('signatures: recorded requests are accepted, and refused with one digit changed', async () => {
    const vectors = JSON.parse(fs.readFileSync(new URL('../../vectors/oss.json', import.meta.url)));
    let n = 0;
    for (const c of vectors.cases.filter(c => c.expected.authorization)) {
        const token = c.headers['x-oss-security-token'];
        const known = new Map([[vectors.credentials.access_key_id, { secret: vectors.credentials.access_key_secret, token }]]);
        const request = authorization => ({ method: c.method, bucketName: c.bucket ?? '', key: c.key ?? '', query: new Map(Object.entries(c.query)),
            headers: new Map([...Object.entries(c.headers).map(([k, v]) => [k.toLowerCase(), String(v)]), ['authorization', authorization]]) });
        const good = c.expected.authorization, at = good.startsWith('OSS4') ? good.length - 1 : good.indexOf(':') + 1;
        authenticate(request(good), known, c.time, 'AccessDenied');
        const bad = good.slice(0, at) + (good[at] === '0' ? '1' : '0') + good.slice(at + 1);
        same((() => { try { return authenticate(request(bad), known, c.time, ''); } catch (err) { return err.code; } })(), 'SignatureDoesNotMatch');
        n++;
    }
    same(n, 51);
});

await test('log: one line a request, with what it carried', async () => {
    const lines = fs.readFileSync(OSS_LOG, 'utf8').trim().split('\n').map(JSON.parse);
    const one = lines.findLast(l => l.op === 'PutObject' && l.key === 'v4/ranged');
    same([one.method, one.status, one.req_bytes, one.body], ['PUT', 200, 10, true]);
});

finish();
