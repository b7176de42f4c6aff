-- The same in PL/pgSQL.
\set q random(1, :queues)
SELECT bench.twin_assign(:name || '-' || :q, 'tiktok', 'c-' || nextval('bench.content'), 'user-1');
