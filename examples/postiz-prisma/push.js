// `prisma db push --accept-data-loss`: Prisma's own schema engine, in the WebAssembly build that comes from the
// registry (the command line would download a binary one).

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { PrismaPg } from '@prisma/adapter-pg';
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils';
import * as glue from '@prisma/schema-engine-wasm/schema_engine_bg';
import pg from 'pg';

const wasm = new URL('schema_engine_bg.wasm', import.meta.resolve('@prisma/schema-engine-wasm/schema_engine_bg'));
const { instance } = await WebAssembly.instantiate(await readFile(wasm), { './schema_engine_bg.js': glue });
glue.__wbg_set_wasm(instance.exports);
instance.exports.__wbindgen_start();

const SCHEMA = fileURLToPath(new URL('schema.prisma', import.meta.url));

/** The adapter doesn't know the type "char" of the catalogs, which the engine reads: to it, it is text. */
function catalogReader(connection) {
  const pool = new pg.Pool(connection);
  const query = pool.query.bind(pool);
  pool.query = async (...values) => {
    const result = await query(...values);
    for (const field of result.fields ?? []) if (field.dataTypeID === pg.types.builtins.CHAR) field.dataTypeID = pg.types.builtins.TEXT;
    return result;
  };
  return pool;
}

/** Makes the database what the schema says; `edit` may change the schema's text first. */
export async function push(connection, edit = (schema) => schema) {
  const content = edit(await readFile(SCHEMA, 'utf8'));
  const pool = catalogReader(connection);
  const adapter = bindMigrationAwareSqlAdapterFactory(new PrismaPg(pool));
  try {
    const engine = await glue.SchemaEngine.new({ datamodels: undefined }, () => {}, adapter);
    const filters = { externalTables: [], externalEnums: [] };
    return await engine.schemaPush({ force: true, schema: { files: [{ path: 'schema.prisma', content }] }, filters });
  } finally {
    await pool.end();
  }
}
