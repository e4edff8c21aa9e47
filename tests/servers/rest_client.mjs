// For the self tests of the servers on rest.mjs: TAP, the control port, and requests exactly as given.
import http from 'node:http';

export function harness(port, controlPort) {
    let number = 0, failures = 0;
    async function test(name, body) {
        number++;
        try {
            await body();
            console.log(`ok ${number} - ${name}`);
        } catch (err) {
            failures++;
            console.log(`not ok ${number} - ${name}\n# ${String(err.stack ?? JSON.stringify(err)).replace(/\n/g, '\n# ')}`);
        }
    }
    function same(got, want, what = '') {
        if (JSON.stringify(got) !== JSON.stringify(want))
            throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
    }
    function send(to, method, path, headers, body) {
        return new Promise((resolve, reject) => {
            const req = http.request({ host: '127.0.0.1', port: to, method, path, headers, agent: false }, res => {
                const parts = [];
                res.on('data', p => parts.push(p)).on('error', reject)
                    .on('end', () => resolve({ status: res.statusCode, headers: res.headers, text: Buffer.concat(parts).toString('utf8') }));
            });
            req.on('error', reject);
            req.end(body);
        });
    }
    const raw = (method, path, { host = `127.0.0.1:${port}`, headers = {}, body } = {}) =>
        send(port, method, path, { host, ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }), ...headers }, body);
    async function control(method, what, body) {
        const answer = await send(controlPort, method, `/_ctl/${what}`, {}, body === undefined ? undefined : JSON.stringify(body));
        if (answer.status !== 200)
            throw new Error(answer.text);
        return JSON.parse(answer.text);
    }
    function done() {
        console.log(`1..${number}`);
        process.exit(failures ? 1 : 0);
    }
    return { test, same, raw, control, done };
}
