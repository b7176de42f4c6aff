-- The same row by its primary key.
\set n random(1, :requests)
SELECT * FROM bench.request WHERE name = md5(md5('k-' || :n)::uuid::text)::uuid;
