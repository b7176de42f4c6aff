-- The two bare statements, in two transactions.
\set n random(1, 1000000000000)
INSERT INTO bench.request (name, fingerprint, started_at, held_until, holder, lifetime, sweep_at, attempt, user_id, key, method, path) VALUES (md5(:n || '-' || :client_id)::uuid, :n, now(), now() + interval '1 minute', :n, 86400, 1000000, 1, 'user-1', 'k-' || :n || '-' || :client_id, 'POST', '/api/communities');
UPDATE bench.request SET status = 201, held_until = now() + interval '1 day', body = jsonb_build_object('id', :n::bigint, 'name', 'My Community', 'slug', 'my-community') WHERE name = md5(:n || '-' || :client_id)::uuid;
