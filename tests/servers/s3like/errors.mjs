// An answer which is not a success. `extra` adds elements to the body, `headers` to the head.
export class StoreError extends Error {
    constructor(status, code, message, extra = {}, headers = {}) {
        super(message);
        Object.assign(this, { status, code, extra, headers });
    }
}
