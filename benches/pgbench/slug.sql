-- A name that nobody has had, and one that ten thousand have, in turn.
\set i :i + 1
INSERT INTO bench.community (name, slug) VALUES ('Fresh', slotkeeper.unique_slug('bench.community', 'slug', :name || ' ' || nextval('bench.content')));
INSERT INTO bench.community (name, slug) VALUES ('Many', slotkeeper.unique_slug('bench.community', 'slug', 'Many'));
