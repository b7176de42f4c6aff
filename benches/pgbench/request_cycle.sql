-- Begun and finished, in two transactions.
\set n random(1, 1000000000000)
SELECT slotkeeper.begin_request('k-' || :n || '-' || :client_id, 'POST', '/api/communities', 'user-1', jsonb_build_object('name', :n::text)) ->> 'token' AS token \gset
SELECT slotkeeper.finish_request(:token, 201, jsonb_build_object('id', :n::bigint, 'name', 'My Community', 'slug', 'my-community'));
