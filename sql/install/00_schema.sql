-- The script makes the schema itself, so that it belongs to the superuser: whoever owned it could plant an overload
-- that a qualified call of ours picks up. It fails where somebody has made one of that name before.
SET LOCAL search_path = pg_catalog, pg_temp;

DO $body$
BEGIN
    -- Not SQL_ASCII either: it takes any bytes for text, and ids that are none could not be told apart.
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'slotkeeper needs a database in UTF8, not %', current_setting('server_encoding')
            USING ERRCODE = '0A000', DETAIL = 'Elsewhere two ids that differ could be one text.', HINT = 'Create one with ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
END
$body$;

CREATE SCHEMA slotkeeper;

COMMENT ON SCHEMA slotkeeper IS
    'slotkeeper: posting slots without collisions. Call its functions; its tables are its own.';
