// The one server of this process: serve() fills it in, operations and control look here.
//   skin         how the provider differs from its family, see server.mjs
//   opt          the options of the command line, limits among them
//   buckets      name -> Bucket
//   credentials  id -> { secret, token, expired }
//   clock        { offset_s, code }: how far it is moved, and the code of a refusal for that
export const world = { skin: null, opt: null, buckets: new Map(), credentials: new Map(), clock: { offset_s: 0, code: '' } };

export const now = () => Date.now() + world.clock.offset_s * 1000;
