// Azurite, Microsoft's own emulator of the Blob service, in this process: on 127.0.0.1, in memory, without telemetry. It checks
// SharedKey and SAS signatures. For faults put proxy.mjs in front of it: neither signs the Host header.
//
//   node server.mjs [--port N] [--log FILE] [--ready FILE] [--account NAME] [--key BASE64] [--container NAME …]
//
// Log: one JSON object a request: start_ms end_ms method path query status.
// Ready file: AZURE_PORT, AZURE_ENDPOINT (with the account in its path), AZURE_ACCOUNT, AZURE_KEY, AZURE_CONTAINER (the first),
// AZURE_SAS (made by the official SDK: all rights in the first container, for a day), AZURE_LOG.
import { createRequire } from 'node:module';
import path from 'node:path';
import { options, RequestLog, announce } from '../common.mjs';

// ES imports do not look into NODE_PATH, which is how the packages are found.
const require = createRequire(path.join(process.env.OBJMIG_NODE_MODULES ?? process.cwd(), 'x.js'));

const opt = options({
    port: 0, log: '', ready: '', account: 'testaccount', key: Buffer.from('the key of the account of the tests').toString('base64'),
    container: ['contained'],
});
const log = new RequestLog(opt.log);

process.env.AZURITE_ACCOUNTS = `${opt.account}:${opt.key}`;
const { default: BlobConfiguration } = require('azurite/dist/src/blob/BlobConfiguration');
const { default: BlobServer } = require('azurite/dist/src/blob/BlobServer');
const { AzuriteTelemetryClient } = require('azurite/dist/src/common/Telemetry');
const { BlobServiceClient, StorageSharedKeyCredential, ContainerSASPermissions, generateBlobSASQueryParameters } =
    require('@azure/storage-blob');

AzuriteTelemetryClient.init('', false);
// host, port, keep-alive s, three places on disk that nothing is written to, access log, debug log, loose, any API version, no
// certificate, in memory
const config = new BlobConfiguration('127.0.0.1', opt.port, 60, '', '', [], false, undefined, false, undefined, false, true,
    '', '', '', undefined, true, true);
const server = new BlobServer(config);
await server.start();
server.httpServer.prependListener('request', (req, res) => {
    const start_ms = Date.now();
    const [, pathname, query] = /^([^?]*)\??(.*)$/.exec(req.url);
    const end = res.end;
    res.end = (...args) => {
        log.write({ start_ms, end_ms: Date.now(), method: req.method, path: pathname, query, status: res.statusCode });
        return end.apply(res, args);
    };
});
const { port } = server.httpServer.address();

const endpoint = `http://127.0.0.1:${port}/${opt.account}`;
const credential = new StorageSharedKeyCredential(opt.account, opt.key);
const service = new BlobServiceClient(endpoint, credential);
for (const name of opt.container)
    await service.createContainer(name);
const sas = generateBlobSASQueryParameters({
    containerName: opt.container[0], permissions: ContainerSASPermissions.parse('racwdl'), expiresOn: new Date(Date.now() + 86400e3),
}, credential).toString();

announce(opt.ready, {
    AZURE_PORT: port, AZURE_ENDPOINT: endpoint, AZURE_ACCOUNT: opt.account, AZURE_KEY: opt.key, AZURE_CONTAINER: opt.container[0],
    AZURE_SAS: sas, AZURE_LOG: opt.log, AZURE_PID: process.pid,
});
