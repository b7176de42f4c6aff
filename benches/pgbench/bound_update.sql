-- A row that has its seat, and a column that has nothing to do with it.
\set n random(1, :contents)
UPDATE post SET views = views + 1 WHERE id = md5(:n::text)::uuid;
