// Azurite as the tests use it, with the official SDK as a client: that it checks signatures, and that what our contract suite
// relies on is Azurite's doing and not ours. Prints TAP. The server must run: AZURE_… come from `service azure start`.
import { createRequire } from 'node:module';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const require = createRequire(path.join(process.env.OBJMIG_NODE_MODULES, 'x.js'));
const { BlobServiceClient, ContainerClient, StorageSharedKeyCredential } = require('@azure/storage-blob');
const { AZURE_ENDPOINT, AZURE_ACCOUNT, AZURE_KEY, AZURE_CONTAINER, AZURE_SAS, AZURE_LOG } = process.env;

const credential = new StorageSharedKeyCredential(AZURE_ACCOUNT, AZURE_KEY);
const once = { retryOptions: { maxTries: 1 } };
const container = new BlobServiceClient(AZURE_ENDPOINT, credential, once).getContainerClient(AZURE_CONTAINER);

let number = 0;
async function test(name, body) {
    number++;
    try {
        await body();
        console.log(`ok ${number} - ${name}`);
    } catch (err) {
        console.log(`not ok ${number} - ${name}`);
        console.log(`# ${String(err.stack ?? err).replace(/\n/g, '\n# ')}`);
    }
}
function same(got, want) {
    if (JSON.stringify(got) !== JSON.stringify(want))
        throw new Error(`got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}
async function refused(promise, status, code) {
    const err = await promise.then(() => null, e => e);
    if (!err)
        throw new Error(`not refused with ${code}`);
    same([err.statusCode, err.code], [status, code]);
}
const put = (name, text, options) => container.getBlockBlobClient(name).upload(text, Buffer.byteLength(text), options);
const id = text => Buffer.from(text).toString('base64');

await test('a wrong key is refused', async () => {
    const wrong = new StorageSharedKeyCredential(AZURE_ACCOUNT, id('another key'));
    await refused(new ContainerClient(container.url, wrong, once).getBlobClient('x').download(), 403, 'AuthorizationFailure');
});

await test('a SAS is taken, a damaged one is refused', async () => {
    const url = `${AZURE_ENDPOINT}/${AZURE_CONTAINER}`;
    await put('sas', 'text');
    same((await new ContainerClient(`${url}?${AZURE_SAS}`).getBlobClient('sas').downloadToBuffer()).toString(), 'text');
    const damaged = AZURE_SAS.replace(/sig=./, 'sig=A%2BA');
    const err = await new ContainerClient(`${url}?${damaged}`, undefined, once).getBlobClient('sas').download().then(() => null, e => e);
    same(err?.statusCode, 403);
});

await test('names, metadata and headers come back', async () => {
    for (const name of ['a b+ü%.bin', '/lead', 'a//b', 'dir/', '%2F', '한글']) {
        await put(name, name, { metadata: { a_b: '1', a0: '2' }, blobHTTPHeaders: { blobContentType: 'text/x' } });
        const p = await container.getBlobClient(name).getProperties();
        same([p.metadata, p.contentType, p.contentLength], [{ a_b: '1', a0: '2' }, 'text/x', Buffer.byteLength(name)]);
    }
    const names = [];
    for await (const blob of container.listBlobsFlat())
        names.push(blob.name);
    same(names, [...names].sort());
    same(names.includes('/lead') && names.includes('dir/'), true);
});

await test('what is no key of ours is changed by it', async () => {
    await put('back\\slash', 'x');
    const names = [];
    for await (const blob of container.listBlobsFlat({ prefix: 'back' }))
        names.push(blob.name);
    same(names, ['back/slash']);
});

await test('conditions', async () => {
    const first = await put('cond', '1');
    await refused(put('cond', '2', { conditions: { ifNoneMatch: '*' } }), 409, 'BlobAlreadyExists');
    await put('cond', '3', { conditions: { ifMatch: first.etag } });
    await refused(put('cond', '4', { conditions: { ifMatch: first.etag } }), 412, 'ConditionNotMet');
});

await test('blocks of two uploads, and a list with one that is not there', async () => {
    const blob = container.getBlockBlobClient('blocks');
    await blob.stageBlock(id('one-1'), 'a', 1);
    await blob.stageBlock(id('two-1'), 'b', 1);
    same((await blob.getBlockList('uncommitted')).uncommittedBlocks.map(b => b.name), [id('one-1'), id('two-1')]);
    await refused(blob.commitBlockList([id('none1')]), 400, 'InvalidBlockList');
    await blob.commitBlockList([id('two-1')]);
    same((await blob.downloadToBuffer()).toString(), 'b');
    same((await blob.getBlockList('uncommitted')).uncommittedBlocks ?? [], []);
});

await test('a copy keeps headers, and metadata unless it gets its own', async () => {
    await put('from', 'text', { metadata: { old: '1' }, blobHTTPHeaders: { blobContentType: 'text/old' } });
    const to = container.getBlobClient('to'), source = `${container.getBlobClient('from').url}?${AZURE_SAS}`;
    await to.syncCopyFromURL(source, { metadata: { new: '2' } });
    let p = await to.getProperties();
    same([p.metadata, p.contentType], [{ new: '2' }, 'text/old']);
    await to.syncCopyFromURL(source);
    p = await to.getProperties();
    same(p.metadata, { old: '1' });
});

await test('setting properties takes away what is not given', async () => {
    await put('props', 'text');
    const blob = container.getBlobClient('props');
    same((await blob.getProperties()).contentMD5 !== undefined, true);
    await blob.setHTTPHeaders({ blobContentType: 'text/x' });
    same((await blob.getProperties()).contentMD5, undefined);
});

await test('a wrong MD5 is refused', async () => {
    const md5 = crypto.createHash('md5').update('other').digest();
    const err = await container.getBlockBlobClient('md5').stageBlock(id('b'), 'text', 4, { transactionalContentMD5: md5 }).then(() => null, e => e);
    same(err?.statusCode, 400);
});

await test('Put Block From URL is not known here', async () => {
    const err = await container.getBlockBlobClient('url').stageBlockFromURL(id('b'), container.getBlobClient('from').url, 0, 2)
        .then(() => null, e => e);
    same(err?.statusCode, 501);
});

await test('an archived blob cannot be read', async () => {
    await put('cold', 'text');
    await container.getBlobClient('cold').setAccessTier('Archive');
    await refused(container.getBlobClient('cold').download(), 409, 'BlobArchived');
});

await test('the log has a line a request', async () => {
    const lines = fs.readFileSync(AZURE_LOG, 'utf8').trim().split('\n').map(JSON.parse);
    const last = lines.at(-1);
    same([last.method, last.path, last.status], ['GET', `/${AZURE_ACCOUNT}/${AZURE_CONTAINER}/cold`, 409]);
});
