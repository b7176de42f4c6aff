-- A key that is finished: its response.
\set n random(1, :requests)
SELECT slotkeeper.begin_request(md5('k-' || :n)::uuid::text, 'POST', '/api/communities', md5('u-' || :n % 1000)::uuid::text);
