// The checksum of GCS and BOS, as Google's SDK makes it.
import { require } from './common.mjs';

export const { CRC32C } = require('@google-cloud/storage');
