-- The next ten slots of a queue and who is in them.
\set q random(1, :queues)
SELECT * FROM slotkeeper.preview_slots(:name || '-' || :q, 'tiktok', NULL, 10);
