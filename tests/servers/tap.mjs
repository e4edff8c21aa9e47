// How the proofs of the servers are written: each prints TAP.
import crypto from 'node:crypto';
import http from 'node:http';
import { Crc64 } from './crc64.mjs';

let number = 0, failures = 0;
export async function test(name, body) {
    number++;
    try {
        await body();
        console.log(`ok ${number} - ${name}`);
    } catch (err) {
        failures++;
        console.log(`not ok ${number} - ${name}`);
        console.log(`# ${String(err.stack ?? JSON.stringify(err)).replace(/\n/g, '\n# ')}`);
    }
}
export function same(got, want, what = '') {
    if (JSON.stringify(got) !== JSON.stringify(want))
        throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}
export function finish() {
    console.log(`1..${number}`);
    process.exit(failures ? 1 : 0);
}

export const crc = data => String(new Crc64().update(data).value());
export const md5 = (data, form = 'hex') => crypto.createHash('md5').update(data).digest(form);

// control(port)(METHOD, 'what', [JSON or bytes]): the server's control port.
export const control = port => async (method, what, body) => (await fetch(`http://127.0.0.1:${port}/_ctl/${what}`,
    { method, body: body === undefined ? undefined : Buffer.isBuffer(body) ? body : JSON.stringify(body) })).json();

// A request made by hand; headers are all that is sent. An answer, or an error with the code of the lost connection.
export function send(port, method, path, headers, body = Buffer.alloc(0)) {
    return new Promise((resolve, reject) => {
        const req = http.request({ host: '127.0.0.1', port, method, path, headers }, async res => {
            const parts = [];
            try {
                for await (const p of res)
                    parts.push(p);
            } catch (err) {
                return reject(err);
            }
            const bytes = Buffer.concat(parts), text = bytes.toString();
            resolve({ status: res.statusCode, headers: res.headers, bytes, text, code: /<Code>(.*)<\/Code>/.exec(text)?.[1] });
        });
        req.on('error', reject);
        req.end(body);
    });
}

// raw(port)(METHOD, path, { host, headers, body }): the same with a Host and a length.
export const raw = port => (method, path, { host = `127.0.0.1:${port}`, headers = {}, body } = {}) =>
    send(port, method, path, { host, ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }), ...headers }, body);
