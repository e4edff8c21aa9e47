// For the self tests of the servers: each an `await test(name, async () => …)`, and `end()`.
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

// A server's control port.
export const controlOf = port => async (method, what, body) => (await fetch(`http://127.0.0.1:${port}/_ctl/${what}`,
    { method, body: body === undefined ? undefined : Buffer.isBuffer(body) ? body : JSON.stringify(body) })).json();

export function end() {
    console.log(`1..${number}`);
    process.exit(failures ? 1 : 0);
}
