// The part of PostgREST that `rpc` needs, so that the example runs without a Supabase server: named arguments out of
// a JSON object, errors as JSON.
import { createServer } from 'node:http';

const STATUS = { 42501: 403, 23505: 409, '55P03': 500, 40001: 500 };

export async function servePostgrest(pool) {
  const server = createServer(async (request, response) => {
    const answer = (status, value) =>
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
    const [, name] = /^\/rest\/v1\/rpc\/([a-z_]+)$/.exec(request.url) ?? [];
    if (!name) return answer(404, { message: 'not here' });
    try {
      let body = '';
      for await (const chunk of request) body += chunk;
      const given = Object.keys(JSON.parse(body));
      const { rows } = await pool.query(
        `SELECT a.name, format_type(a.type, NULL) AS type
         FROM pg_proc AS p, LATERAL unnest(p.proargnames, p.proargtypes::oid[]) AS a (name, type)
         WHERE p.pronamespace = $1::regnamespace AND p.proname = $2 AND a.name = ANY ($3)`,
        [request.headers['content-profile'], name, given],
      );
      if (rows.length !== given.length) return answer(404, { code: 'PGRST202', message: `no function ${name} with these arguments` });
      const columns = rows.map((argument) => `${argument.name} ${argument.type}`).join(', ');
      const values = rows.map((argument) => `${argument.name} => x.${argument.name}`).join(', ');
      const call = `SELECT ${request.headers['content-profile']}.${name}(${values}) AS reply FROM json_to_record($1) AS x(${columns})`;
      answer(200, (await pool.query(call, [body])).rows[0].reply);
    } catch (error) {
      answer(STATUS[error.code] ?? 400, { code: error.code, message: error.message, details: error.detail, hint: error.hint });
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => (server.closeAllConnections(), server.close()) };
}
