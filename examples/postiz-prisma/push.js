// `prisma db push --accept-data-loss`: Prisma's own schema engine, in the WebAssembly build that comes from the
// registry (the command line would download a binary one). The database is that of PGHOST, PGPORT, PGUSER, PGDATABASE.
//
//   node push.js [schema]

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { PrismaPg } from '@prisma/adapter-pg';
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils';
import * as glue from '@prisma/schema-engine-wasm/schema_engine_bg';
import pg from 'pg';

// Where the engine says why it gave up.
globalThis.PRISMA_WASM_PANIC_REGISTRY = { set_message: (message) => console.error(message) };

const wasm = new URL('schema_engine_bg.wasm', import.meta.resolve('@prisma/schema-engine-wasm/schema_engine_bg'));
const { instance } = await WebAssembly.instantiate(await readFile(wasm), { './schema_engine_bg.js': glue });
glue.__wbg_set_wasm(instance.exports);
instance.exports.__wbindgen_start();

/** The adapter doesn't know the type "char" of the catalogs, which the engine reads: to it, it is text. */
function catalogReader() {
  const pool = new pg.Pool();
  const query = pool.query.bind(pool);
  pool.query = async (...values) => {
    const result = await query(...values);
    for (const field of result.fields ?? []) if (field.dataTypeID === pg.types.builtins.CHAR) field.dataTypeID = pg.types.builtins.TEXT;
    return result;
  };
  return pool;
}

const file = process.argv[2] ?? fileURLToPath(new URL('schema.prisma', import.meta.url));
const schema = { files: [{ path: file, content: await readFile(file, 'utf8') }] };
const adapter = bindMigrationAwareSqlAdapterFactory(new PrismaPg(catalogReader()));
const engine = await glue.SchemaEngine.new({ datamodels: undefined }, () => {}, adapter);
const done = await engine.schemaPush({ force: true, schema, filters: { externalTables: [], externalEnums: [] } });
// The engine leaves a timer of a minute behind: this doesn't wait for it.
process.stdout.write(JSON.stringify(done), () => process.exit());
