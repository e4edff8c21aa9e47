// An answer which is not a success. `headers` are added to the head.
export class UpyunError extends Error {
    constructor(status, code, message, headers = {}) {
        super(message);
        Object.assign(this, { status, code, headers });
    }
}
